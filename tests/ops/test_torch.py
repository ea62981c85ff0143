"""torch on a CPU: oneDNN's products and chunks give transformers' features, and step aside where they must."""

import copy
import pickle
import re
import threading

import numpy as np
import pytest
import torch
from align_models import SIZES as ALIGN_SIZES
from clip_directories import save_perturbed
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AlignConfig, AlignModel, CLIPConfig, CLIPModel

import miniclip
from miniclip import params
from miniclip.model import CLIP
from miniclip.ops import torch_cpu, torch_ops
from miniclip.runtime import chunks

pytestmark = pytest.mark.skipif(not torch_cpu.HAS_ONEDNN, reason="this torch lacks oneDNN's products")

SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 2}
TEXT = {"max_position_embeddings": 20, "vocab_size": 60, "eos_token_id": 59, "bos_token_id": 1, "pad_token_id": 0}


@pytest.fixture(scope="module", params=["quick_gelu", "gelu", "gelu_pytorch_tanh", "relu"])
def pair(request, tmp_path_factory):
    """(transformers' model, its directory)."""
    vision = {**SHAPE, "image_size": 30, "patch_size": 8, "hidden_act": request.param}  # 6 pixels are no whole patch
    text = {**SHAPE, **TEXT, "hidden_act": request.param}
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("official")
    config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=24)
    return save_perturbed(CLIPModel._from_config(config), directory), directory


@pytest.fixture
def threads():
    """Sets torch's number of threads, for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def products(monkeypatch):
    """A list with the number of rows of each of oneDNN's products, as they are computed."""
    rows, product = [], torch_cpu.PRODUCT

    def noted(x, *arguments):
        rows.append(x.shape[0])
        return product(x, *arguments)

    monkeypatch.setattr(torch_cpu, "PRODUCT", noted)
    return rows


def pictures(B, side=48):
    return torch.randn(B, 3, side, side, generator=torch.Generator().manual_seed(1))


def texts(B, T=20, end=59):
    """(B, T) tokens of texts that are 2 to T tokens long."""
    rng = np.random.default_rng(2)
    tokens = rng.integers(2, end, (B, T))
    tokens[:, 0] = 1
    for row, length in zip(tokens, rng.integers(2, T + 1, B)):
        row[length - 1 :] = 0
        row[length - 1] = end
    return torch.from_numpy(tokens)


def features(output):
    return getattr(output, "pooler_output", output)


def ordinary(model, tower, *batches):
    config = getattr(model.config, tower)
    encode = config.tower.encode_image if tower == "visual" else config.tower.encode_text
    return encode(torch_ops, *batches, **model.params[tower], config=config)


@pytest.fixture(scope="module")
def shapes():
    return miniclip.load(backend="torch")[0]


# ------------------------------------------------------------------------------------- the same features


@pytest.mark.parametrize("count", [1, 2, 3])
def test_features_are_those_of_transformers(pair, count, threads, products, relative_error):
    threads(count)
    theirs, model = pair[0].eval(), miniclip.load(pair[1], "torch")[0]
    with torch.no_grad():
        for B in (1, 2, 21):
            images, tokens = pictures(B, 30), texts(B)
            expected = features(theirs.get_image_features(pixel_values=images))
            assert relative_error(model.encode_image(images), expected) < 1e-5
            mask = (torch.arange(20) <= tokens.argmax(-1)[:, None]).long()
            expected = features(theirs.get_text_features(input_ids=tokens, attention_mask=mask))
            assert relative_error(model.encode_text(tokens), expected) < 1e-5
    assert products


def test_bfloat16_is_as_near_to_float32_as_torchs_own_operations(shapes, products):
    if not torch_cpu.multiplies(torch.bfloat16):
        pytest.skip("this processor has no products in bfloat16")
    model, _ = miniclip.load(backend="torch", dtype="bfloat16")
    images, tokens = pictures(64), torch.from_numpy(shapes.tokenize(["a red circle", "a small blue star"] * 9))
    for tower, batches in (("visual", [images]), ("text", [tokens, tokens.argmax(-1)])):
        encode = "encode_image" if tower == "visual" else "encode_text"
        expected = getattr(shapes, encode)(batches[0])
        got = getattr(model, encode)(batches[0])
        assert got.dtype == torch.bfloat16 and not got.requires_grad
        assert torch.cosine_similarity(got.float(), expected).min() > 0.9995
        plain = ordinary(model, tower, *(x.to(torch.bfloat16) if x.is_floating_point() else x for x in batches))
        assert (got - expected).norm() < 1.15 * (plain - expected).norm()
    assert products


def test_align_sees_no_padding_and_its_token_types(tmp_path, threads, products, relative_error):
    torch.manual_seed(0)
    theirs = AlignModel(AlignConfig(**ALIGN_SIZES["small"])).eval()
    theirs.save_pretrained(tmp_path)
    model, _ = miniclip.load(tmp_path, "torch")
    tokens = texts(9)
    mask = (tokens != 0).long()
    types = torch.randint(0, 2, tokens.shape)
    threads(2)
    options = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": types}
    with torch.no_grad():
        expected = features(theirs.get_text_features(**options))
    assert relative_error(model.encode_text(tokens, token_types=types), expected) < 1e-5
    assert len(products) > 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_every_dtype_computes_and_an_empty_batch_has_no_features(shapes, dtype, relative_error):
    model, _ = miniclip.load(backend="torch", dtype=dtype)
    images, tokens = pictures(5), shapes.tokenize(["a red circle", "a star", "a small green square"])
    bound = {"float32": 1e-5, "float64": 1e-5}.get(dtype, 0.05)
    for got, expected in (
        (model.encode_image(images), shapes.encode_image(images)),
        (model.encode_text(tokens), shapes.encode_text(tokens)),
    ):
        assert got.dtype == getattr(torch, dtype)
        assert relative_error(got.double(), expected) < bound
    assert model.encode_image(images[:0]).shape == model.encode_text(tokens[:0]).shape == (0, model.config.embed_dim)


def test_texts_are_sorted_and_cut_and_their_features_keep_their_places(shapes, threads, products, monkeypatch):
    monkeypatch.setattr(chunks, "TOKENS", 20)
    threads(2)
    config = shapes.config.text
    tokens = texts(30, 20, config.vocab_size - 1)
    alone = torch.cat([shapes.encode_text(x[None]) for x in tokens])
    del products[:]
    together = shapes.encode_text(tokens)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert len(products) > 4 * 4 * config.layers  # products in each of more than 4 chunks
    assert max(products) < 30


# ------------------------------------------------------------------------------------------ stepping aside


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_calls_that_need_more_than_features_use_torchs_own_operations(shapes, products):
    images = pictures(3)
    expected = shapes.encode_image(images)
    del products[:]
    calls = {
        "trace": lambda: shapes.encode_image(images, trace=lambda name, x: None),
        "gradients": lambda: shapes.encode_image(images.clone().requires_grad_()),
        "jit": lambda: torch.jit.trace(lambda x: shapes._encode_image(x), images, check_trace=False)(images),
        "func": lambda: torch.func.vmap(lambda x: shapes._encode_image(x[None])[0])(images),
        "compile": lambda: torch.compile(shapes._encode_image, backend="eager", fullgraph=True)(images),
    }
    for call in calls.values():
        torch.testing.assert_close(call().detach(), expected, rtol=1e-4, atol=1e-5)
        assert not products
    with torch.autocast("cpu", torch.bfloat16):
        assert (shapes.encode_image(images).float() - expected).abs().max() < 0.05 * expected.abs().max()
    assert not products
    shapes.encode_image(images)
    assert products


def test_gradients_reach_pictures_and_parameters(shapes, products):
    images = pictures(3).requires_grad_()
    shapes.encode_image(images).sum().backward()
    assert images.grad.abs().max() > 0
    leaves = params.tree_map(lambda x: x.detach().clone().requires_grad_(), shapes.params)
    model = CLIP(shapes.config, leaves, torch_ops, dtype="float32")
    model.encode_image(pictures(3)).sum().backward()
    gradients = [x.grad for x in params.flatten(leaves["visual"]).values()]
    assert all(x is not None for x in gradients)
    assert not products


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_forward_derivatives_are_those_of_torchs_own_operations(shapes):
    images, direction = pictures(2), pictures(2).flip(0)
    with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):  # torch's other attentions have none
        got = forward_ad.unpack_dual(shapes.encode_image(forward_ad.make_dual(images, direction))).tangent
    step = 1e-3
    expected = (shapes.encode_image(images + step * direction) - shapes.encode_image(images - step * direction)) / (
        2 * step
    )
    torch.testing.assert_close(got, expected, rtol=0.02, atol=0.02 * expected.abs().max().item())


# ------------------------------------------------------------------------------------- changed parameters


def test_parameters_that_were_changed_or_replaced_count_from_the_next_call():
    model, _ = miniclip.load(backend="torch")
    images = pictures(2)
    before = model.encode_image(images)
    projection = model.params["visual"]["projection"]
    projection["weight"].mul_(2)
    torch.testing.assert_close(model.encode_image(images), 2 * before)
    projection["weight"] = projection["weight"] / 4
    torch.testing.assert_close(model.encode_image(images), before / 2)
    projection["weight"].data = 2 * projection["weight"].data
    torch.testing.assert_close(model.encode_image(images), before)


def test_parameters_of_someone_else_are_read_where_they_are(shapes, products):
    """A write to `.data` is seen by nobody: so a model without dtype, such as an adapter's, keeps no copy."""
    tree = params.tree_map(torch.clone, shapes.params)
    model = CLIP(shapes.config, tree, torch_ops)
    images, tokens = pictures(2), shapes.tokenize(["a red circle", "a star"])
    torch.testing.assert_close(model.encode_image(images), shapes.encode_image(images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.encode_text(tokens), shapes.encode_text(tokens), rtol=1e-4, atol=1e-5)
    before = model.encode_image(images)
    tree["visual"]["projection"]["weight"].data.mul_(2)
    torch.testing.assert_close(model.encode_image(images), 2 * before)
    assert products


def test_copies_of_a_model_compute_the_same(shapes):
    images = pictures(4)
    expected = shapes.encode_image(images)
    for model in (copy.deepcopy(shapes), pickle.loads(pickle.dumps(shapes))):
        assert torch.equal(model.encode_image(images), expected)


# --------------------------------------------------------------------------------------- threads and modes


def test_a_chunk_has_one_thread_of_every_library(threads):
    """After torch.set_num_threads MKL has a number for each thread: with two, a chunk's last bits would be others."""

    def numbers():
        return [int(n) for n in re.findall(r"max_threads\(\) : (\d+)", torch.__config__.parallel_info())]

    threads(2)
    with torch_cpu._one_thread():
        assert set(numbers()) == {1}
    assert set(numbers()) == {2}


def test_torchs_threads_and_modes_are_as_before(shapes, threads):
    threads(2)
    with torch.inference_mode():
        assert shapes.encode_image(pictures(4)).is_inference()
    x = shapes.encode_image(pictures(4))
    assert not x.is_inference() and torch.is_grad_enabled() and torch.get_num_threads() == 2
    with torch.inference_mode():
        inside, _ = miniclip.load(backend="torch")  # its parameters count no changes
    torch.testing.assert_close(inside.encode_image(pictures(4)), x, rtol=0, atol=1e-5)


def test_several_threads_may_encode_at_once(shapes, threads):
    threads(2)
    model, _ = miniclip.load(backend="torch")
    images = pictures(6)
    results = {}
    callers = [threading.Thread(target=lambda i=i: results.update({i: model.encode_image(images)})) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    expected = shapes.encode_image(images)
    assert len(results) == 4
    for x in results.values():
        torch.testing.assert_close(x, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("activation", torch_cpu.ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_with_activations_are_torchs(activation, dtype, relative_error):
    if not torch_cpu.multiplies(dtype):
        pytest.skip("this processor has no products in bfloat16")
    x, weight, bias = (torch.randn(size).to(dtype) for size in ((3, 5, 32), (48, 32), (48,)))
    ours = torch_cpu.Operations(torch_ops, scaled=False)
    for make in (torch_cpu._pack, torch_cpu._lend):
        got = ours.linear(x, make(weight), bias, activation=activation)
        expected = torch_ops.linear(x.double(), weight.double(), bias.double(), activation=activation)
        assert got.dtype == dtype and relative_error(got.double(), expected) < {4: 1e-5, 2: 2**-7}[dtype.itemsize]


@pytest.mark.parametrize("mask", [{}, {"causal": True}, {"lengths": torch.tensor([3, 7])}])
def test_attention_in_bfloat16_is_near_to_that_in_float64(mask, relative_error):
    q, k, v = (torch.randn(2, 7, 3, 16).bfloat16() for _ in range(3))
    got = torch_cpu.Operations(torch_ops, scaled=False).attention(q, k, v, **mask)
    expected = torch_ops.attention(q.double(), k.double(), v.double(), **mask)
    assert got.shape == expected.shape and relative_error(got.double(), expected) < 0.02


def test_without_these_products_models_run_on_torchs_own_operations(monkeypatch, products):
    monkeypatch.setattr(torch_cpu, "HAS_ONEDNN", False)
    model, _ = miniclip.load(backend="torch")
    model.encode_image(pictures(2))
    assert not products


# ------------------------------------------------------------------------------------------ torch.compile


@pytest.fixture
def quickly(monkeypatch):
    """torch.compile without what it compiles, which takes a minute."""
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, *, options, **how: compiled(f, backend="eager", **how))


def test_compiled_features_are_the_same_for_any_batch(shapes, quickly, threads, relative_error):
    threads(2)
    model, _ = miniclip.load(backend="torch", compile=True)
    tokens = torch.from_numpy(shapes.tokenize(["a red circle", "a star", "a small blue star in the middle"] * 5))
    for B in (3, 15):
        assert relative_error(model.encode_image(pictures(B)), shapes.encode_image(pictures(B))) < 1e-5
    assert relative_error(model.encode_text(tokens), shapes.encode_text(tokens)) < 1e-5
    seen = []
    model.encode_image(pictures(1), trace=lambda name, x: seen.append(name))
    assert "features" in seen
    images = pictures(2).requires_grad_()
    model.encode_image(images).sum().backward()
    assert images.grad.abs().max() > 0


def test_a_compiled_model_is_compiled_again_in_a_copy_and_after_a_change(shapes, quickly, relative_error):
    model = copy.deepcopy(miniclip.load(backend="torch", tower="visual", compile=True)[0])
    assert model.options["compile"]
    expected = shapes.encode_image(pictures(3))
    assert relative_error(model.encode_image(pictures(3)), expected) < 1e-5
    model.params["visual"]["projection"]["weight"].mul_(2)
    assert relative_error(model.encode_image(pictures(3)), 2 * expected) < 1e-5


def test_compiling_says_what_it_needs(monkeypatch):
    from torch._inductor import config

    with pytest.raises(ValueError, match="compile=True is for float32 and bfloat16 on a CPU"):
        miniclip.load(backend="torch", dtype="float64", compile=True)
    with pytest.raises(ValueError, match="compile works on the torch backend, not on numpy"):
        miniclip.load(backend="numpy", compile=True)
    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    from torch._inductor.cpp_builder import cpp_compiler_search

    cpp_compiler_search.cache_clear()
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler, and torch finds none: install g\+\+"):
        miniclip.load(backend="torch", compile=True)
    cpp_compiler_search.cache_clear()


def test_a_branch_of_the_parameters_may_be_replaced(shapes):
    model = copy.deepcopy(shapes)
    model.encode_image(pictures(3))
    block = model.params["visual"]["blocks"][0]
    model.params["visual"]["blocks"][0] = params.tree_map(lambda x: x * 1.5, block)
    x = model.encode_image(pictures(3))
    torch.testing.assert_close(x, model.encode_image(pictures(3), trace=lambda name, x: None), rtol=0, atol=1e-4)
    assert (x - shapes.encode_image(pictures(3))).abs().max() > 1e-2
