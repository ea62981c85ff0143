"""The towers against transformers on the same weights and inputs, stage by stage, so that a failure names one."""

import math

import numpy as np
import pytest
import torch
from backends import HERE
from clip_directories import save_perturbed
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)

import miniclip
from miniclip import params
from miniclip.families import names
from miniclip.families.clip import huggingface as clip_huggingface
from miniclip.families.clip.presets import PRESETS
from miniclip.runtime import chunks

# vision: width, MLP width, heads, layers, picture, patch, activation
# text: width, MLP width, heads, layers, length, vocabulary, activation, end
SIZES = {
    "like ViT-B/32": [(64, 256, 1, 2, 64, 32, "quick_gelu"), (64, 256, 1, 2, 77, 100, "quick_gelu", 2), 32],
    "narrow heads, gelu": [(48, 80, 6, 3, 30, 8, "gelu"), (40, 56, 5, 1, 19, 61, "gelu", 60), 24],
    "one patch, mixed": [(36, 36, 2, 1, 14, 14, "gelu"), (24, 120, 3, 4, 8, 33, "quick_gelu", 7), 50],
    "wide heads": [(96, 100, 1, 2, 45, 9, "quick_gelu"), (80, 64, 1, 3, 33, 70, "gelu", 2), 8],
}


@pytest.fixture(scope="module", params=SIZES)
def pair(request, tmp_path_factory):
    """(transformers' model, its directory): all weights are random, none is 0 or 1."""
    vision, text, embed_dim = SIZES[request.param]
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    config = CLIPConfig(
        vision_config=dict(zip((*names, "image_size", "patch_size", "hidden_act"), vision)),
        text_config=dict(
            zip((*names, "max_position_embeddings", "vocab_size", "hidden_act", "eos_token_id"), text),
            bos_token_id=1,
            pad_token_id=0,
        ),
        projection_dim=embed_dim,
    )
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("official")
    return save_perturbed(CLIPModel._from_config(config, attn_implementation="eager"), directory), directory


@pytest.fixture(params=HERE)
def ours(request, pair):
    return miniclip.load(pair[1], backend=request.param)[0]


def residual_streams(tower):
    """{our name: the input of a block's second layer norm}, which is the residual stream after attention."""
    stages = {}

    def catch(i):
        return lambda module, inputs: stages.__setitem__(f"blocks.{i}.attention", inputs[0])

    for i, layer in enumerate(tower.encoder.layers):
        layer.layer_norm2.register_forward_pre_hook(catch(i))
    return stages


def traced(model, encode, batch):
    """{stage: value} of one encoding, the features last."""
    stages = {}
    features = encode(batch, trace=lambda name, value: stages.update({name: model.ops.to_numpy(value)}))
    assert np.array_equal(stages["features"], model.ops.to_numpy(features))
    return stages


def run(tower, inputs):
    """The output of a tower of transformers, and the stages of its blocks under our names."""
    streams = residual_streams(tower)
    output = tower(inputs, output_hidden_states=True, output_attentions=True)
    stages = {f"blocks.{i}.mlp": x for i, x in enumerate(output.hidden_states[1:])}
    return output, stages | {f"blocks.{i}.attention_weights": x for i, x in enumerate(output.attentions)} | streams


def token_batch(config, seed=0):
    """Random texts of all lengths, padded with zeros as by the official tokenizer.

    If the end is the highest id, all other ids are lower; else they are any ids except the end's.
    """
    rng = np.random.default_rng(seed)
    end = config.vocab_size - 1 if config.eot_token_id is None else config.eot_token_id
    others = np.setdiff1d(np.arange(1, config.vocab_size), end)
    tokens = np.zeros((6, config.context_length), np.int32)
    for row, length in zip(tokens, [*rng.integers(1, config.context_length, 5), config.context_length - 1]):
        row[:length] = rng.choice(others, length)
        row[length] = end
    return tokens


def compare(ours, theirs, relative_error, error=1e-5):
    assert ours.keys() == theirs.keys()
    for stage, value in theirs.items():
        found = relative_error(ours[stage], value.detach().numpy())
        assert found < error, f"{stage} is off by {found:.1e} of its largest value"


def test_image_tower_equals_transformers_stage_by_stage(pair, ours, relative_error):
    official, _ = pair
    images = np.random.default_rng(1).standard_normal((3, 3, *[ours.config.visual.image_size] * 2)).astype(np.float32)
    with torch.no_grad():
        pixels = torch.from_numpy(images)
        output, blocks = run(official.vision_model, pixels)
        theirs = {
            "embeddings": official.vision_model.embeddings(pixels),
            "ln_pre": output.hidden_states[0],
            **blocks,
            "ln_post": output.pooler_output,
            "features": official.visual_projection(output.pooler_output),
        }
    compare(traced(ours, ours.encode_image, images), theirs, relative_error)


def test_text_tower_equals_transformers_stage_by_stage(pair, ours, relative_error):
    official, _ = pair
    tokens = token_batch(ours.config.text)
    with torch.no_grad():
        output, blocks = run(official.text_model, torch.from_numpy(tokens).long())
        theirs = {
            "embeddings": output.hidden_states[0],
            **blocks,
            "ln_final": output.last_hidden_state,
            "features": official.text_projection(output.pooler_output),
        }
    compare(traced(ours, ours.encode_text, tokens), theirs, relative_error)


def test_logits_equal_transformers(pair, ours, relative_error):
    official, _ = pair
    images = np.random.default_rng(1).standard_normal((3, 3, *[ours.config.visual.image_size] * 2)).astype(np.float32)
    tokens = token_batch(ours.config.text)
    with torch.no_grad():
        theirs = official(pixel_values=torch.from_numpy(images), input_ids=torch.from_numpy(tokens).long())
    per_image, per_text = map(ours.ops.to_numpy, ours(images, tokens))
    assert relative_error(per_image, theirs.logits_per_image.detach()) < 1e-4
    assert relative_error(per_text, theirs.logits_per_text.detach()) < 1e-4
    assert relative_error(ours.ops.to_numpy(ours.logit_scale), official.logit_scale.detach()) == 0


# ------------------------------------------------------------------------------ the end of a text


def test_positions_after_the_last_end_are_not_computed_and_change_nothing(ours, relative_error, monkeypatch):
    tokens = token_batch(ours.config.text)[:3]
    lengths = ours.ops.to_numpy(ours.ops.asarray(tokens != 0).sum(-1))
    seen = []
    embed = ours.ops.embed

    class Counting:
        """The backend; records the shapes of the token batches that enter the tower."""

        def __getattr__(self, name):
            return getattr(ours.ops, name)

        def embed(self, tokens, table):
            seen.append(tokens.shape)
            return embed(tokens, table)

    if hasattr(ours.ops, "RUNTIME"):  # the tower is recorded for any size: what counts is what its program is given
        pieces = chunks.pieces

        def fed(*batch, **how):
            found = pieces(*batch, **how)
            seen.extend(piece.batch[0].shape for piece in found)
            return found

        monkeypatch.setattr(chunks, "pieces", fed)
    cut = miniclip.CLIP(ours.config, ours.params, Counting()).encode_text(tokens)
    whole = traced(ours, ours.encode_text, tokens)["features"]
    step = ours.ops.LENGTH_STEP
    seen = [shape for shape in seen if shape != ("B", "T")]
    assert sum(rows for rows, _ in seen) == 3  # NumPy encodes in chunks
    assert max(T for _, T in seen) == min(tokens.shape[1], math.ceil(lengths.max() / step) * step)
    assert relative_error(ours.ops.to_numpy(cut), whole) < 1e-6


def test_tokens_after_the_end_change_nothing(ours):
    config = ours.config.text
    tokens = token_batch(config)
    before = traced(ours, ours.encode_text, tokens)["features"]
    end = config.vocab_size - 1 if config.eot_token_id is None else config.eot_token_id
    position = (tokens == end).argmax(-1)
    for row, at in zip(tokens, position):
        row[at + 1 :] = end  # only the first end counts
    np.testing.assert_array_equal(traced(ours, ours.encode_text, tokens)["features"], before)
    for row, at in zip(tokens, position):
        row[at - 1] = 1 + row[at - 1] % (end - 1)
    assert not np.allclose(traced(ours, ours.encode_text, tokens)["features"], before)


# -------------------------------------------------------------------------- one statement of the architecture


def test_shapes_are_those_of_the_official_parameters(pair, ours):
    official = {name: x.numpy() for name, x in pair[0].state_dict().items()}
    renamed = names.rename(official, clip_huggingface.NAMES)
    assert {name: x.shape for name, x in renamed.items()} == params.flatten(ours.config.shapes())


# The numbers of parameters, counted in the official checkpoints.
@pytest.mark.parametrize(
    ("name", "parameters", "heads"),
    [
        ("ViT-B/32", 151_277_313, (12, 8)),
        ("ViT-B/16", 149_620_737, (12, 8)),
        ("ViT-L/14", 427_616_513, (16, 12)),
        ("ViT-L/14@336px", 427_944_193, (16, 12)),
        ("RN50", 102_007_137, (32, 8)),
        ("RN101", 119_688_033, (32, 8)),
        ("RN50x4", 178_300_601, (40, 10)),
        ("RN50x16", 290_979_217, (48, 12)),
        ("RN50x64", 623_258_305, (64, 16)),
    ],
)
def test_presets_have_the_official_numbers_of_parameters_and_heads(name, parameters, heads):
    assert (PRESETS[name].visual.heads, PRESETS[name].text.heads) == heads
    sizes = {name: math.prod(shape) for name, shape in params.flatten(PRESETS[name].shapes()).items()}
    folded = [name for name in sizes if name.startswith(("visual.stem.", "visual.stages.")) and name.endswith(".bias")]
    # For each bias of our convolutions, the official model has a BatchNorm's weight and bias.
    assert sum(sizes.values()) + sum(sizes[name] for name in folded) == parameters


ALONE = {
    "visual": (CLIPVisionModel, CLIPVisionModelWithProjection),
    "text": (CLIPTextModel, CLIPTextModelWithProjection),
}


@pytest.mark.parametrize("projected", [False, True], ids=["bare", "projected"])
@pytest.mark.parametrize("tower", ALONE)
def test_a_tower_saved_alone_loads_alone(pair, tower, projected, tmp_path, relative_error):
    official, directory = pair
    config = miniclip.load(directory)[0].config
    part = official.config.vision_config if tower == "visual" else official.config.text_config
    part.projection_dim = config.embed_dim
    alone = ALONE[tower][projected](part).eval()
    weights = official.state_dict()
    if not projected:
        prefix = "vision_model." if tower == "visual" else "text_model."
        weights = {name.removeprefix(prefix): x for name, x in weights.items() if name.startswith(prefix)}
    assert not alone.load_state_dict(weights, strict=False).missing_keys
    alone.save_pretrained(tmp_path)

    model, preprocess = miniclip.load(tmp_path)
    size = config.visual.image_size
    images = np.random.default_rng(1).standard_normal((2, 3, size, size)).astype(np.float32)
    tokens = token_batch(config.text)
    with torch.no_grad():
        if tower == "visual":
            output, features = alone(torch.from_numpy(images)), model.encode_image(images)
        else:
            output, features = alone(torch.from_numpy(tokens).long()), model.encode_text(tokens)
    theirs = (output.image_embeds if tower == "visual" else output.text_embeds) if projected else output.pooler_output
    assert relative_error(features, theirs.numpy()) < 1e-5
    assert (preprocess is None) == (tower == "text")
    with pytest.raises(miniclip.InputError, match=r"has no (visual|text) tower"):
        model.encode_text(tokens) if tower == "visual" else model.encode_image(images)
    with pytest.raises(miniclip.InputError, match="no logit_scale"):
        _ = model.logit_scale


@pytest.mark.parametrize("backend", HERE)
def test_one_tower_of_a_whole_model_encodes_the_same(pair, backend):
    whole = miniclip.load(pair[1], backend=backend)[0]
    tokens = token_batch(whole.config.text)
    alone, preprocess = miniclip.load(pair[1], backend=backend, tower="text")
    assert preprocess is None and set(alone.params) == {"text"}
    assert (alone.encode_text(tokens) == whole.encode_text(tokens)).all()
    alone, preprocess = miniclip.load(pair[1], backend=backend, tower="visual")
    image = np.zeros((1, 3, *[preprocess.image_size] * 2), np.float32)
    assert set(alone.params) == {"visual"}
    assert (alone.encode_image(image) == whole.encode_image(image)).all()
