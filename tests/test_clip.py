"""miniclip.clip's model is a torch module like OpenAI's, which is the oracle: names, gradients, errors."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from align_models import SIZES, official
from PIL import Image

from miniclip import InputError, clip
from miniclip.families.clip.presets import VOCABULARY

VIT, RESNET = (16, 64, 2, 64, 16, 77, VOCABULARY, 64, 1, 2), (16, 64, (1, 1, 1, 1), 16, None, 77, VOCABULARY, 64, 1, 2)


@pytest.fixture(scope="module", params=[VIT, RESNET], ids=["ViT", "ResNet"])
def files(request, tmp_path_factory, official_model, save_torchscript):
    official = official_model(*request.param)
    path = tmp_path_factory.mktemp("clip") / "m.pt"
    save_torchscript(official, path)
    return official, path


@pytest.fixture
def pair(files):
    """(OpenAI's model, ours), new for each test. OpenAI's has our BatchNorms, which are folded: the same function."""
    official, ours = copy.deepcopy(files[0]), clip.load(files[1], device="cpu")[0]
    official.load_state_dict(ours.state_dict())
    return official, ours


@pytest.fixture(scope="module")
def inputs():
    torch.manual_seed(1)
    return torch.randn(3, 3, 64, 64), clip.tokenize(["a diagram", "a dog", "a cat on a mat"])


def test_names_shapes_and_numbers_are_openais(pair):
    official, ours = pair
    shapes = [{name: x.shape for name, x in model.state_dict().items()} for model in pair]
    assert shapes[0] == shapes[1]
    assert {name for name, _ in official.named_parameters()} == {name for name, _ in ours.named_parameters()}
    numbers = [
        (m.visual.input_resolution, m.visual.output_dim, m.context_length, m.vocab_size, m.dtype, m.training)
        for m in pair
    ]
    assert numbers[0] == numbers[1]


def test_logits_are_openais(files, inputs, relative_error):
    with torch.no_grad():
        expected = files[0](*inputs)[0]
        assert relative_error(clip.load(files[1], device="cpu")[0](*inputs)[0], expected) < 1e-4


def test_state_dict_loads_in_both_directions(pair, inputs, relative_error):
    official, ours = pair
    expected = official(*inputs)[0].detach()
    with torch.no_grad():
        for x in official.parameters():
            x.add_(0.01 * torch.randn_like(x))
    changed = official(*inputs)[0].detach()
    ours.load_state_dict(official.state_dict())
    assert relative_error(ours(*inputs)[0].detach(), changed) < 1e-4
    assert relative_error(changed, expected) > 1e-3
    official.load_state_dict(ours.state_dict())
    assert torch.equal(official(*inputs)[0], changed)


def test_gradients_are_openais(pair, inputs, relative_error):
    for model in pair:
        F.cross_entropy(model(*inputs)[0], torch.arange(3)).backward()
    official, ours = (dict(model.named_parameters()) for model in pair)
    largest = max(x.grad.abs().max() for x in official.values())
    for name, x in official.items():
        assert (ours[name].grad - x.grad).abs().max() < 1e-4 * largest, name


def test_fine_tuning_as_users_write_it(pair, inputs):
    """The losses of five steps of AdamW are those of OpenAI's model, whose BatchNorms are frozen too."""
    losses = []
    for model in pair:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)
        losses.append([])
        for _ in range(5):
            optimizer.zero_grad()
            per_image, per_text = model(*inputs)
            target = torch.arange(3)
            loss = (F.cross_entropy(per_image, target) + F.cross_entropy(per_text, target)) / 2
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0][0] - losses[0][-1] > 0.01
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)


def test_the_image_tower_and_unit_features(pair, inputs, relative_error):
    official, ours = pair
    with torch.no_grad():
        features = official.encode_image(inputs[0])
        assert relative_error(ours.visual(inputs[0]), features) < 1e-5
        assert relative_error(ours.encode_image(image=inputs[0], normalize=True), F.normalize(features, dim=-1)) < 1e-5
        unit = F.normalize(official.encode_text(inputs[1]), dim=-1)
        assert relative_error(ours.encode_text(text=inputs[1], normalize=True), unit) < 1e-5
        assert torch.equal(ours(image=inputs[0], text=inputs[1])[0], ours(*inputs)[0])


def test_dtypes_change_as_in_torch(pair, inputs):
    _, ours = pair
    with torch.no_grad():
        expected = ours(*inputs)[0]
        assert ours.bfloat16().dtype == torch.bfloat16
        logits = ours(inputs[0].bfloat16(), inputs[1])[0]
        assert logits.dtype == torch.float32 and (logits - expected).abs().max() < 0.05 * expected.abs().max()
        assert ours.float().encode_image(inputs[0]).dtype == torch.float32


def test_modules_can_be_copied_pickled_and_held_by_others(pair, inputs):
    _, ours = pair
    with torch.no_grad():
        expected = ours(*inputs)[0]
        for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
            assert torch.equal(twin(*inputs)[0], expected)
    holder = torch.nn.ModuleDict({"clip": ours})
    assert len(list(holder.parameters())) == len(list(ours.parameters()))


def test_what_openais_code_raises_as_a_runtime_error(files):
    for wrong in (lambda: clip.load("no such model"), lambda: clip.tokenize(200 * "word ")):
        with pytest.raises(RuntimeError) as caught:
            wrong()
        assert isinstance(caught.value, InputError)


def test_other_families_are_sent_elsewhere(tmp_path):
    official(SIZES["small"]).save_pretrained(tmp_path)
    with pytest.raises(
        InputError, match=r"OpenAI's clip has no models of the family 'align': use miniclip\.load or miniclip\.hf"
    ):
        clip.load(tmp_path)


def test_the_built_in_model_has_its_own_vocabulary():
    model, preprocess = clip.load("shapes", device="cpu")
    image, text = preprocess(Image.open("weights/example.png"))[None], model.tokenize(["a red heart", "a blue circle"])
    assert model(image, text)[0].argmax() == 0


@pytest.mark.filterwarnings("ignore")  # tracing is deprecated, and warns at every branch
def test_pictures_can_be_traced_and_texts_cannot(pair, inputs, relative_error):
    _, ours = pair
    for mode in (torch.enable_grad, torch.no_grad):
        with mode():
            traced = torch.jit.trace(ours.visual, inputs[0], check_trace=False)  # it compares names of modules
            assert relative_error(traced(2 * inputs[0]).detach(), ours.visual(2 * inputs[0]).detach()) < 1e-5
            with pytest.raises(InputError, match="a trace would keep its values for ever"):
                torch.jit.trace(ours, inputs)


def test_weights_of_two_dtypes_compute_in_that_of_the_first(pair, inputs, official_model, relative_error):
    """OpenAI's recipe for training in float16 halves some weights with `convert_weights`."""
    _, ours = pair
    with torch.no_grad():
        expected = ours(*inputs)[0]
        official_model.module.convert_weights(ours)
        assert ours.transformer.resblocks[0].mlp.c_fc.weight.dtype == torch.float16
        assert ours.ln_final.weight.dtype == torch.float32
        assert relative_error(ours(inputs[0].to(ours.dtype), inputs[1])[0], expected) < 0.02
