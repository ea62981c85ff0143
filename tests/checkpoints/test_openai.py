"""OpenAI's checkpoints: we read what OpenAI's code writes (with random weights), and it reads what we write."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

import miniclip
from miniclip import checkpoints, params
from miniclip.checkpoints import openai
from miniclip.checkpoints.convert import WRITERS, convert
from miniclip.checkpoints.infer import infer_config
from miniclip.config import ResNetConfig, TextConfig, VisionConfig
from miniclip.families import names
from miniclip.families.clip import openai as openai_names
from miniclip.families.clip.presets import PRESETS

VIT = (16, 40, 2, 64, 8, 11, 100, 64, 1, 2)
RESNET = (16, 64, (1, 2, 1, 1), 16, None, 11, 100, 64, 1, 2)


def reduced(name):
    """Constructor arguments of an official model: its depths and grids, but smaller widths and patches."""
    visual, text = PRESETS[name].visual, PRESETS[name].text
    if isinstance(visual, ResNetConfig):
        image = (visual.image_size, visual.layers, 8, None)
    else:
        image = (4 * visual.grid[0], visual.layers, 64, 4)
    return (24, *image, text.context_length, 300, 64, 1, text.layers)


def batch(sizes, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((2, 3, sizes[1], sizes[1])).astype(np.float32)
    return images, rng.integers(0, sizes[6], (3, sizes[5])).astype(np.int32)


def official_stages(model, images, tokens):
    """{our name for a stage: the official model's value}, for each tower, by hooks on its modules."""
    visual, text = {}, {}

    def catch(stages, name, swap=False):
        return lambda module, inputs, output: stages.__setitem__(name, output.transpose(0, 1) if swap else output)

    hooks = []
    for stages, transformer in [(visual, getattr(model.visual, "transformer", None)), (text, model.transformer)]:
        for i, block in enumerate(transformer.resblocks if transformer else []):
            hooks.append(block.register_forward_hook(catch(stages, f"blocks.{i}.mlp", swap=True)))
    for name in ("ln_pre", "ln_post"):
        if hasattr(model.visual, name):
            hooks.append(getattr(model.visual, name).register_forward_hook(catch(visual, name)))
    for s in range(4):
        for b, block in enumerate(getattr(model.visual, f"layer{s + 1}", [])):
            hooks.append(block.register_forward_hook(catch(visual, f"stages.{s}.{b}")))
    with torch.no_grad():
        visual["features"] = model.encode_image(torch.from_numpy(images))
        text["features"] = model.encode_text(torch.from_numpy(tokens))
    for hook in hooks:
        hook.remove()
    return visual, text


def compare(model, official, images, tokens, relative_error):
    for encode, batch, theirs in zip(
        (model.encode_image, model.encode_text), (images, tokens), official_stages(official, images, tokens)
    ):
        ours = {}
        encode(batch, trace=lambda name, value, ours=ours: ours.update({name: model.ops.to_numpy(value)}))
        for stage, value in theirs.items():
            error = relative_error(ours[stage], value.numpy())
            assert error < 1e-5, f"{stage} is off by {error:.1e} of its largest value"


@pytest.mark.parametrize("name", PRESETS)
def test_an_official_archive_is_read_as_the_official_model(
    name, tmp_path, official_model, save_torchscript, relative_error
):
    sizes = reduced(name)
    official = official_model(*sizes, half=True)
    save_torchscript(official, tmp_path / "model.pt")
    model, preprocess = miniclip.load(tmp_path / "model.pt", backend="numpy")
    ours, expected = model.config, PRESETS[name]
    assert (ours.visual.layers, ours.visual.grid, ours.text.layers) == (
        expected.visual.layers,
        expected.visual.grid,
        expected.text.layers,
    )
    assert preprocess.image_size == sizes[1]
    compare(model, official.float(), *batch(sizes), relative_error)


@pytest.mark.parametrize("name", ["ViT-B/32", "RN50"])
def test_a_full_size_archive_equals_the_official_model_in_little_memory(
    name, tmp_path, official_model, save_torchscript, relative_error
):
    visual, text = PRESETS[name].visual, PRESETS[name].text
    vision = (visual.image_size, visual.layers, visual.width, getattr(visual, "patch_size", None))
    sizes = (PRESETS[name].embed_dim, *vision, 77, 49408, text.width, text.heads, text.layers)
    official = official_model(*sizes, half=True)
    path = tmp_path / "model.pt"
    save_torchscript(official, path)
    official.float()
    model = miniclip.load(path, backend="numpy")[0]
    assert model.config == PRESETS[name]
    images, tokens = batch(sizes)
    with torch.no_grad():
        theirs = official(torch.from_numpy(images), torch.from_numpy(tokens))[0].numpy()
        features = official.encode_image(torch.from_numpy(images)).numpy()
        text_features = official.encode_text(torch.from_numpy(tokens)).numpy()
    assert relative_error(model.encode_image(images), features) < 1e-5
    assert relative_error(model.encode_text(tokens), text_features) < 1e-5
    assert relative_error(model(images, tokens)[0], theirs) < 1e-4

    # In its own process, so that the peak memory, which includes pages of the file, is that of loading.
    program = (
        "import sys, miniclip\n"
        "from miniclip import checkpoints\n"
        "def most(): return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM')) << 10\n"
        "before = most()\n"
        "miniclip.load(sys.argv[1], backend='numpy')\n"
        "print(most() - before)\n"
    )
    if sys.platform == "linux":
        done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
        size = 4 * sum(x.size for x in params.flatten(model.params).values())
        assert int(done.stdout) < 1.15 * size


@pytest.mark.parametrize("sizes", [VIT, RESNET], ids=["vit", "resnet"])
def test_a_state_dict_loads_as_its_archive(sizes, tmp_path, official_model, save_torchscript, same_tree):
    official = official_model(*sizes)
    save_torchscript(official, tmp_path / "archive.pt")
    config, tree, _ = checkpoints.load(tmp_path / "archive.pt")
    state = official.state_dict()
    training = {
        "epoch": 3,
        "state_dict": {f"module.{name}": x for name, x in state.items()},
        "optimizer": {"state": {}},
    }
    compiled = {"model": {f"module._orig_mod.{name}": x for name, x in state.items()}}
    for content in (state, training, compiled):
        torch.save(content, tmp_path / "state.pt")
        read, values, _ = checkpoints.load(tmp_path / "state.pt", as_openai=True)
        assert read == config and same_tree(values, tree)
    with pytest.raises(miniclip.InputError, match=r"state\.pt: .* give activation='quick_gelu'"):
        checkpoints.load(tmp_path / "state.pt")
    with pytest.raises(miniclip.InputError, match=r"archive\.pt: the file states its activation, and it is not gelu"):
        checkpoints.load(tmp_path / "archive.pt", activation="gelu")
    read, _, _ = checkpoints.load(tmp_path / "state.pt", activation="gelu", as_openai=True)
    assert read.text.activation == "gelu" and getattr(read.visual, "activation", "gelu") == "gelu"


@pytest.mark.parametrize("sizes", [VIT, RESNET], ids=["vit", "resnet"])
def test_every_canonical_name_is_hit_exactly_once(sizes, official_model):
    table = openai_names.OPENAI if sizes is VIT else openai_names.OPENAI_RESNET
    sources = [name for theirs in table.values() for name in theirs]
    assert len(sources) == len(set(sources))
    tensors = {name: x.numpy() for name, x in official_model(*sizes).state_dict().items()}
    flat = openai.rename(dict(tensors), "the official model")
    config = infer_config({name: x.shape for name, x in flat.items()})
    assert {name: x.shape for name, x in flat.items()} == params.flatten(config.shapes())
    assert names.rename(names.restore(flat, table), table).keys() == flat.keys()


# ------------------------------------------------------------------------------------------------ there and back


FORMS = {"miniclip": "m.safetensors", "openai": "m.pt", "hf": "m", "open_clip": "m"}


def archive(path, sizes, official_model, save_torchscript):
    official = official_model(*sizes)
    save_torchscript(official, path)
    return official


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("sizes", [VIT, RESNET], ids=["vit", "resnet"])
def test_conversion_and_back_is_the_identity(sizes, to, tmp_path, official_model, save_torchscript, same_tree):
    archive(tmp_path / "source.pt", sizes, official_model, save_torchscript)
    target = tmp_path / FORMS[to]
    if to == "hf" and sizes is RESNET:
        with pytest.raises(miniclip.InputError, match="Vision Transformers"):
            convert(tmp_path / "source.pt", target, to)
        assert not target.exists()
        return
    convert(tmp_path / "source.pt", target, to)
    config, tree, _ = checkpoints.load(tmp_path / "source.pt")
    read, values, _ = checkpoints.load(target)
    assert read == config and same_tree(values, tree)
    convert(target, tmp_path / "again", to)  # from each form to each other, by way of ours
    assert same_tree(checkpoints.load(tmp_path / "again")[1], tree)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("visual", {"activation": "gelu"}, "visual.activation gelu, not quick_gelu"),
        ("visual", {"image_size": (40, 48)}, r"visual.image_size \(40, 48\), not"),
        ("visual", {"heads": 2}, "visual.heads 2, not 1"),
        ("visual", {"mlp_width": 100}, "visual.mlp_width 100, not 256"),
        ("visual", {"channels": 4}, "visual.channels 4, not 3"),
        ("text", {"eps": 1e-6}, "text.eps 1e-06, not 1e-05"),
        ("text", {"eot_token_id": 5}, "text.eot_token_id 5, not None"),
        (None, {"visual": None}, "cannot express a model with one tower"),
        (None, {"text": None}, "cannot express a model with one tower"),
        (None, {"embed_dim": None}, "cannot express a model with one tower, or without projections"),
    ],
)
def test_a_model_that_openais_code_would_build_differently_is_refused(part, change, message, tmp_path):
    config = miniclip.config.CLIPConfig(
        VisionConfig(40, 8, 64, 1, 1, 256), TextConfig(11, 100, 64, 1, 1, 256, eot_token_id=99), 16
    )
    target = config if part is None else getattr(config, part)
    changed = dataclasses.replace(target, **change)
    changed = changed if part is None else dataclasses.replace(config, **{part: changed})
    for name in ("openai",) if part else ("openai", "open_clip"):
        for configuration, refused in ((config, False), (changed, True)):
            shapes = configuration.shapes()
            tree = params.tree_map(lambda shape: np.zeros(shape, np.float32), shapes)
            path = tmp_path / f"{name}-{refused}"
            if refused:
                with pytest.raises(miniclip.InputError, match=message):
                    WRITERS[name](path, configuration, tree)
            else:
                WRITERS[name](path, configuration, tree)
            assert path.exists() != refused


@pytest.mark.parametrize("sizes", [VIT, RESNET], ids=["vit", "resnet"])
def test_openais_own_code_loads_what_we_write(sizes, tmp_path, official_model, save_torchscript, relative_error):
    official = archive(tmp_path / "source.pt", sizes, official_model, save_torchscript)
    convert(tmp_path / "source.pt", tmp_path / "m.pt", "openai")
    state = torch.load(tmp_path / "m.pt", weights_only=True)
    built = official_model.module.build_model(dict(state))  # halves the weights
    assert built.visual.input_resolution == sizes[1]
    built.float().load_state_dict({name: x for name, x in state.items() if name not in openai.SIZES})
    images, tokens = map(torch.from_numpy, batch(sizes))
    with torch.no_grad():
        assert relative_error(built.encode_image(images), official.encode_image(images)) < 1e-5
        assert relative_error(built.encode_text(tokens), official.encode_text(tokens)) == 0


def test_transformers_loads_what_we_write(tmp_path, official_model, save_torchscript, relative_error):
    from transformers import CLIPModel

    official = archive(tmp_path / "source.pt", VIT, official_model, save_torchscript)
    convert(tmp_path / "source.pt", tmp_path / "m", "hf")
    theirs, report = CLIPModel.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(report.values())
    images, tokens = map(torch.from_numpy, batch(VIT))
    with torch.no_grad():
        expected = official(images, tokens.long())[0]
        output = theirs.eval()(pixel_values=images, input_ids=tokens.long())
    assert relative_error(output.logits_per_image.detach(), expected) < 1e-5
