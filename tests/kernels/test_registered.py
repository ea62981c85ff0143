"""Kernels as operators of torch: torch.compile, torch.export and fake tensors keep them, with the same results."""

import pytest
import torch
from budget import DEVICE, normal
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import miniclip
from miniclip.kernels import (
    activation,
    activation_backward,
    attention,
    attention_backward,
    layer_norm,
    layer_norm_backward,
    linear,
    operators,
    patch_embed,
    similarity,
    top_k,
)
from miniclip.ops import torch_ops

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own, of itself


def calls():
    """{name: (our function, its arguments by position, and by name)}, every option of each operator among them."""
    x, weight, bias = normal(0, 2, 5, 24), normal(1, 24), normal(2, 24)
    q, k, v = normal(3, 2, 7, 3, 2, 16).unbind(2)  # views, as the towers pass them: (B, T, H, K)
    lengths = torch.tensor([7, 3], device=DEVICE)
    pixels, patches, positions = normal(4, 2, 3, 8, 12), normal(5, 24, 3, 4, 4), normal(6, 7, 24)
    return {
        "attention": (attention.attention, (q, k, v), {"causal": True}),
        "attention, lengths": (attention.attention, (q[:, :1], k, v), {"lengths": lengths}),
        "layer_norm": (layer_norm.layer_norm, (x[:, 0], weight, bias), {"eps": 1e-5}),
        "add_layer_norm": (layer_norm.add_layer_norm, (x, x, weight, bias), {"eps": 1e-5}),
        "bias_activation": (activation.bias_activation, (x.transpose(0, 1), bias, "gelu"), {}),
        "bias_activation, residual": (activation.bias_activation, (x, None, None), {"residual": x}),
        "linear": (linear.linear, (x, normal(7, 8, 24), None, "quick_gelu"), {}),
        "linear_activation": (linear.linear_activation, (x, normal(7, 8, 24), normal(8, 8), "quick_gelu"), {}),
        "patch_embed": (patch_embed.patch_embed, (pixels, patches, weight, positions), {}),
        "similarity": (similarity.similarity, (x[0], x[1], torch.tensor(2.0, device=DEVICE)), {}),
        **backward(x, weight, bias, q, k, v, lengths),
    }


def backward(x, weight, bias, q, k, v, lengths):
    """Those of `calls` that gradients need."""
    attend, norms, bend = attention_backward, layer_norm_backward, activation_backward.bias_activation_backward
    lse, half = normal(9, 2, 2, 7), [t.half() for t in (q, k, v)]
    other, wide = {"residual": x}, x[:1].expand(2, -1, -1)
    return {
        "attention_forward": (attend.attention_forward, (q, k, v), {"causal": True}),
        "attention_forward, short": (attend.attention_forward, half, {}),
        "attention_backward": (attend.attention_backward, (q, q, k, v, q, lse), {"lengths": lengths}),
        "attention_backward, short": (attend.attention_backward, (half[0], *half, half[0], lse[:0]), {}),
        "layer_norm_backward": (norms.layer_norm_backward, (x, x, weight), {"eps": 1e-5}),
        "add_layer_norm_backward": (norms.add_layer_norm_backward, (x, wide, x, weight), {"eps": 1e-5}),
        "bias_activation_backward": (bend, (x, x, bias, "gelu"), {}),
        "bias_activation_backward, residual": (bend, (wide, x, None, None), other),
    }


@pytest.mark.parametrize("name", calls())
def test_torch_finds_no_fault_with_an_operator(name):
    """torch.library.opcheck: schema, fake results, and tracing with fixed and with unknown sizes."""
    function, arguments, options = calls()[name]
    operator = getattr(torch.ops.miniclip, function.__name__).default
    torch.library.opcheck(operator, arguments, options)
    ours, registered = function(*arguments, **options), operator(*arguments, **options)
    torch.testing.assert_close(ours, registered, rtol=0, atol=0)


@pytest.mark.parametrize("name", calls())
def test_fake_tensors_and_watchers_see_the_operator(name):
    function, arguments, options = calls()[name]
    real = function(*arguments, **options)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        take = [mode.from_tensor(x) if isinstance(x, torch.Tensor) else x for x in arguments]
        fake = function(*take, **options)
    for x, ours in zip(fake, real) if isinstance(real, tuple) else [(fake, real)]:
        assert (x.shape, x.dtype, x.stride()) == (ours.shape, ours.dtype, ours.stride())
    with FlopCounterMode(display=False):
        torch.testing.assert_close(function(*arguments, **options), real, rtol=0, atol=0)


def names(graph):
    """The names of our operators in a graph."""
    return [str(node.target).split(".")[1] for node in graph.nodes if str(node.target).startswith("miniclip.")]


BLOCK = ["layer_norm", "attention", "add_layer_norm", "linear_activation"]


def test_a_tower_compiles_whole_and_keeps_its_kernels(model):
    """fullgraph: nothing breaks the graph. The batch's size is unknown in the second one, which serves all others."""
    graphs = []

    def backend(module, inputs):
        graphs.append(module.graph)
        return module.forward

    torch._dynamo.reset()
    compiled = torch.compile(model.encode_image, backend=backend, fullgraph=True)
    with torch.no_grad():
        for rows in (2, 3, 4):
            images = normal(rows, rows, 3, 48, 48)
            assert torch.equal(compiled(images), model.encode_image(images))
    assert [names(graph) for graph in graphs] == 2 * [["patch_embed", "layer_norm", *BLOCK, "layer_norm"]]


def test_a_tower_compiled_ahead_of_time_gives_the_same_features(model):
    """Inside torch.autocast, too, which would multiply in bfloat16."""
    torch._dynamo.reset()
    images = normal(0, 2, 3, 48, 48)
    with torch.no_grad():
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            compiled = torch.compile(model.encode_image, backend="aot_eager", fullgraph=True)(images)
        assert torch.equal(compiled, model.encode_image(images))


class Pictures(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.encode = model.encode_image

    def forward(self, images):
        return self.encode(images)


@pytest.mark.parametrize("strict", [False, True])
def test_a_tower_is_exported_with_its_kernels(model, strict):
    images = normal(0, 2, 3, 48, 48)
    with torch.no_grad():
        exported = torch.export.export(Pictures(model), (images,), strict=strict)
        assert names(exported.graph).count("attention") == 1
        assert torch.equal(exported.module()(images), model.encode_image(images))


def test_texts_compile_where_they_are_a_tower(model):
    """model.encode_text reads tokens in NumPy; what it calls then takes tensors."""
    torch._dynamo.reset()
    tokens = torch.as_tensor(model.tokenize(["a red heart", "a blue star"]), dtype=torch.int64, device=DEVICE)
    end = model.config.text.tower.end_of_text(tokens.cpu().numpy(), model.config.text.eot_token_id)
    arguments = tokens, torch.as_tensor(end, device=DEVICE)
    with torch.no_grad():
        compiled = torch.compile(model._encode_text, backend="aot_eager", fullgraph=True)(*arguments)
        assert torch.equal(compiled, model._encode_text(*arguments))


def test_versions_and_tiles_are_for_eager_calls():
    _, tensors, options = calls()["layer_norm"]
    for more in ({"version": 1}, {"config": {"BLOCK_M": 1, "num_warps": 1}}):
        refused = pytest.raises(miniclip.InputError, match=r"layer_norm cannot be recorded by torch.compile")
        with refused, FlopCounterMode(display=False):
            layer_norm.layer_norm(*tensors, **options, **more)


def test_what_is_no_operator_is_refused_by_its_public_name():
    x, scale = normal(0, 2, 8), torch.tensor(0.0, device=DEVICE)
    with pytest.raises(miniclip.InputError, match=r"^top_k cannot .*torch.compiler.disable\(top_k\)"):
        torch.compile(lambda x: top_k.top_k(x, x, scale, 1), backend="eager")(x)


def test_vmap_is_refused():
    x, weight, bias = calls()["layer_norm"][1]
    with pytest.raises(
        miniclip.InputError, match=r"layer_norm cannot run inside torch.func's transforms, such as vmap"
    ):
        torch.func.vmap(lambda row: layer_norm.layer_norm(row, weight, bias, eps=1e-5))(x)


def test_in_place_is_a_hint_that_a_recording_ignores():
    x = normal(0, 3, 8)
    before = x.clone()
    with torch.no_grad(), FlopCounterMode(display=False):
        result = activation.bias_activation(x, None, "relu", in_place=True)
    assert torch.equal(x, before) and torch.equal(result, torch_ops.relu(before))


def test_a_file_that_is_loaded_again_makes_its_operators_again():
    """As importlib.reload and notebooks do, after a kernel was edited."""
    for i in (1, 2):
        run, empty = lambda x, i=i: x + i, lambda x: x.new_empty(x.shape)
        operator = operators.register(run, "made_again", "(Tensor x) -> Tensor", empty)
        assert operator(torch.zeros(1)) == torch.ops.miniclip.made_again(torch.zeros(1)) == i
    del operators.LIBRARIES["made_again"]
