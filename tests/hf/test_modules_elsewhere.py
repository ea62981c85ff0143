"""miniclip.hf's models on every backend, against transformers' models: gradients, copies, seeds, arrays."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from backends import HERE
from hf_models import ALIGN, CLIP, batch, clip, logits, official  # noqa: F401

from miniclip import InputError, hf


@pytest.mark.skipif("triton" not in HERE, reason="Triton cannot run here")
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_on_triton_are_those_of_transformers(clip, frozen):
    """Trained models compute with torch's kernels, frozen ones with Triton's, also for the gradient of a picture."""
    ours, theirs = hf.CLIPModel.from_pretrained(clip, backend="triton"), transformers.CLIPModel.from_pretrained(clip)
    theirs.load_state_dict(ours.state_dict())
    gradients = []
    for model in (ours, theirs):
        model.train(False).requires_grad_(not frozen)
        inputs = batch(theirs.config)
        inputs["pixel_values"].requires_grad_()
        model(**inputs, return_loss=True).loss.backward()
        trained = {name: x.grad for name, x in model.named_parameters() if x.grad is not None}
        gradients.append({"pixel_values": inputs["pixel_values"].grad, **trained})
    assert ours.bound().backend == ("triton" if frozen else "torch")
    assert gradients[0].keys() == gradients[1].keys() and (len(gradients[0]) == 1) == frozen
    for name, y in gradients[1].items():
        assert (gradients[0][name] - y).abs().max() <= 1e-4 * y.abs().max() + 1e-6, name


@pytest.mark.parametrize("backend", [name for name in HERE if name != "triton"])
@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copied", "pickled"])
def test_models_are_copied_and_pickled(clip, backend, how):
    ours = hf.CLIPModel.from_pretrained(clip, backend=backend)
    inputs = batch(ours.config, np.asarray)
    with torch.no_grad():
        expected = ours(**inputs).logits_per_image
        again = how(ours)
        assert np.array_equal(again(**inputs).logits_per_image, expected) and again.config == ours.config
        if backend == "torch":
            again.text_projection.weight.zero_()
            assert not np.array_equal(again(**inputs).logits_per_image, expected)
        assert np.array_equal(ours(**inputs).logits_per_image, expected)


def test_align_is_copied_too():
    ours = hf.AlignModel(hf.AlignConfig(**ALIGN["small"]))
    inputs = batch(ours.config)
    torch.testing.assert_close(logits(copy.deepcopy(ours), inputs), logits(ours, inputs))


def test_random_weights_have_seeds():
    config = hf.CLIPConfig(**CLIP["end of text by id"])
    for backend, seed in (("torch", torch.manual_seed), ("numpy", np.random.seed)):
        draws = []
        for number in (1, 1, 2):
            seed(number)
            draws.append(hf.CLIPModel(config, backend=backend).state_dict()["text_projection.weight"])
        x, same, other = map(np.asarray, draws)
        assert np.array_equal(x, same) and not np.array_equal(x, other)
    x, same = (hf.CLIPModel(config, seed=3).state_dict()["text_projection.weight"] for _ in "ab")
    assert torch.equal(x, same)


def test_on_numpy_the_same_names_are_arrays(clip):
    ours, theirs = hf.CLIPModel.from_pretrained(clip, backend="numpy"), transformers.CLIPModel.from_pretrained(clip)
    state = ours.state_dict()
    assert {name: x.shape for name, x in state.items()} == {n: tuple(x.shape) for n, x in theirs.state_dict().items()}
    assert type(ours.logit_scale) is np.ndarray and ours.num_parameters() == theirs.num_parameters()
    weight = ours.text_model.encoder.layers[1].self_attn.v_proj.weight
    assert np.shares_memory(weight, state["text_model.encoder.layers.1.self_attn.v_proj.weight"])
    assert ours.train() is ours.eval() is ours.requires_grad_(False) is ours
    with pytest.raises(AttributeError, match="'CLIPModel' object has no attribute 'head'"):
        _ = ours.head
    doubled = {**state, "visual_projection.weight": -state["visual_projection.weight"]}
    inputs = batch(theirs.config)
    before = ours(**inputs).logits_per_image
    assert not any(ours.load_state_dict({name: torch.from_numpy(np.array(x)) for name, x in doubled.items()}))
    torch.testing.assert_close(ours(**inputs).logits_per_image, -before)
    with pytest.raises(InputError, match="missing"):
        ours.load_state_dict({})


def test_align_on_numpy_loads_states_with_batch_norms():
    theirs = official("Align", ALIGN["small"])
    ours = hf.AlignModel(hf.AlignConfig(**ALIGN["small"]), backend="numpy")
    ours.load_state_dict(theirs.state_dict())
    inputs = batch(theirs.config)
    torch.testing.assert_close(ours(**inputs).logits_per_image, logits(theirs, inputs), rtol=1e-3, atol=1e-3)
    assert ours.num_parameters() == theirs.num_parameters()


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_parameters_of_arrays_are_read_and_not_set(clip, backend):
    """Setting them would change nothing that is computed."""
    ours = hf.CLIPModel.from_pretrained(clip, backend=backend)
    changes = [
        lambda: setattr(ours, "logit_scale", np.float32(0)),
        lambda: setattr(ours.text_projection, "weight", np.zeros((24, 48))),
        lambda: ours.text_projection.weight.__imul__(0),
    ]
    for change in changes:
        with pytest.raises(ValueError, match=r"cannot be set: use load_state_dict|read-only"):
            change()
    ours.note = "anything else can be set"


def test_a_model_is_made_without_torchs_compiler():
    """Its parameters are given: nothing is made at random first, for which torch would import it."""
    program = "import sys; from miniclip import hf; hf.CLIPTextModel(hf.CLIPTextConfig(num_hidden_layers=1))"
    program += "; print('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
