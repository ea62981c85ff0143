"""miniclip.hf's models as torch modules, against transformers' models: parameters, gradients, training."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import copy

import pytest
import torch
import transformers
from hf_models import CLIP, batch, clip, logits, saved  # noqa: F401
from torch import nn

from miniclip import InputError, hf


@pytest.fixture
def pair(saved):
    """(ours, theirs, inputs), with the same weights."""
    family, theirs, directory = saved
    theirs = copy.deepcopy(theirs).train(False)
    return getattr(hf, f"{family}Model").from_pretrained(directory), theirs, batch(theirs.config)


@pytest.fixture
def ours(clip):
    return hf.CLIPModel.from_pretrained(clip)


@pytest.fixture
def inputs(ours):
    return batch(ours.config)


def test_names_and_shapes_of_the_state_are_transformers(pair):
    ours, theirs, _ = pair
    assert isinstance(ours, nn.Module)
    state = ours.state_dict()
    assert {name: x.shape for name, x in state.items()} == {name: x.shape for name, x in theirs.state_dict().items()}
    assert {name for name, _ in ours.named_parameters()} == {name for name, _ in theirs.named_parameters()}
    assert ours.num_parameters() == theirs.num_parameters()
    assert all(x.requires_grad for x in ours.parameters())


def test_states_of_transformers_load_and_keep_their_values(pair):
    ours, theirs, inputs = pair
    ours.load_state_dict(theirs.state_dict())  # with BatchNorms whose statistics are not 0 and 1
    torch.testing.assert_close(logits(ours, inputs), logits(theirs, inputs), rtol=1e-4, atol=1e-4)
    for name, x in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], x, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="Missing key"):
        ours.load_state_dict({})


def test_gradients_are_transformers(pair):
    ours, theirs, inputs = pair
    ours.load_state_dict(theirs.state_dict())
    for model in (ours, theirs):
        model(**inputs, return_loss=True).loss.backward()
    expected = dict(theirs.named_parameters())
    for name, x in ours.named_parameters():
        y = expected[name].grad
        assert (x.grad is None) == (y is None), name
        if name.startswith("text_model.roberta.embeddings"):  # torch leaves out that of padding inside a text
            padding = y.abs().sum(-1) == 0
            x.grad[padding] = 0
        if y is not None:
            assert (x.grad - y).abs().max() <= 2e-3 * y.abs().max() + 1e-6, name


def test_training_with_adamw_is_transformers_step_by_step(clip, inputs):
    ours, theirs = hf.CLIPModel.from_pretrained(clip).train(), transformers.CLIPModel.from_pretrained(clip).train()
    losses = []
    for model in (ours, theirs):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        losses.append([])
        for _ in range(8):
            optimizer.zero_grad()
            loss = model(**inputs, return_loss=True).loss
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and losses[0][-1] < losses[0][0] / 2
    torch.testing.assert_close(logits(ours, inputs), logits(theirs.eval(), inputs), rtol=1e-3, atol=1e-3)


CHANGES = {
    "in place": lambda model, x: model.text_model.encoder.layers[0].self_attn.k_proj.weight.mul_(2),
    "through data": lambda model, x: model.text_model.encoder.layers[0].self_attn.k_proj.weight.data.mul_(2),
    "other data": lambda model, x: setattr(model.visual_projection.weight, "data", x.flip(0)),
    "another Parameter": lambda model, x: setattr(model.visual_projection, "weight", nn.Parameter(-x)),
    "another module": lambda model, x: setattr(model, "visual_projection", nn.Linear(40, 24, bias=False)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_features_follow_every_change_of_a_parameter(ours, inputs, change):
    before = logits(ours, inputs)
    with torch.no_grad():
        change(ours, ours.visual_projection.weight.clone())
    after = logits(ours, inputs)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(ours(**inputs).logits_per_image, after)
    same = transformers.CLIPModel(transformers.CLIPConfig(**CLIP["end of text by id"])).eval()
    same.load_state_dict(ours.state_dict())
    torch.testing.assert_close(after, logits(same, inputs), rtol=1e-4, atol=1e-4)


def test_parameters_and_towers_share_memory_also_after_a_conversion(ours, inputs):
    for _ in "ab":
        logits(ours, inputs)
        q, k, _ = (getattr(ours.text_model.encoder.layers[1].self_attn, f"{name}_proj").weight for name in "qkv")
        with torch.no_grad():
            tree = ours.model.params["text"]
        assert q.data_ptr() == tree["blocks"][1]["attention"]["qkv"]["weight"].data_ptr()
        assert k.data_ptr() == q.data_ptr() + q.nbytes
        assert ours.logit_scale.data_ptr() == ours.model.params["logit_scale"].data_ptr()
        ours.double()


def test_without_gradients_the_tree_is_made_once(ours, inputs):
    with torch.no_grad():
        assert ours.model is ours.model
    with torch.inference_mode():
        features = ours.get_image_features(inputs["pixel_values"])
    ours.requires_grad_(False)
    assert ours.model is ours.model
    torch.testing.assert_close(ours.get_image_features(inputs["pixel_values"]), features.clone())
    ours.text_projection.weight.requires_grad_()
    ours.get_text_features(inputs["input_ids"]).sum().backward()
    assert [name for name, x in ours.named_parameters() if x.grad is not None] == ["text_projection.weight"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_have_other_dtypes_as_in_transformers(ours, inputs, dtype):
    expected = logits(ours, inputs)
    assert ours.to(dtype) is ours and ours.dtype == dtype and ours.text_model.dtype == dtype
    inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
    torch.testing.assert_close(logits(ours, inputs).double(), expected.double(), rtol=0.1, atol=0.1)


def test_other_sizes_of_pictures_have_gradients_too(clip):
    ours, theirs = hf.CLIPModel.from_pretrained(clip), transformers.CLIPModel.from_pretrained(clip).eval()
    images = torch.randn(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    ours.get_image_features(images, interpolate_pos_encoding=True).sum().backward()
    theirs.get_image_features(images, interpolate_pos_encoding=True).pooler_output.sum().backward()
    x, y = (m.vision_model.embeddings.position_embedding.weight.grad for m in (ours, theirs))
    torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-3)


def test_torch_func_calls_it_with_other_parameters(ours, inputs):
    half = {name: x * 0.5 for name, x in ours.named_parameters()}
    before = logits(ours, inputs)
    output = torch.func.functional_call(ours, half, (), inputs)
    torch.testing.assert_close(logits(ours, inputs), before)
    ours.load_state_dict(half)
    torch.testing.assert_close(output.logits_per_image.detach(), logits(ours, inputs))


def test_models_are_parts_of_other_modules_and_subclassed(ours, clip, inputs):
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.clip, self.head = ours, nn.Linear(24, 2)

        def forward(self, images):
            return self.head(self.clip.get_image_features(images))

    classifier = Classifier()
    classifier(inputs["pixel_values"]).sum().backward()
    assert classifier.clip.visual_projection.weight.grad is not None
    assert "clip.text_model.embeddings.token_embedding.weight" in classifier.state_dict()
    assert classifier.half().clip.dtype == torch.float16

    class Mine(hf.CLIPModel):
        def __init__(self, config, classes):
            super().__init__(config)
            self.head = nn.Linear(24, classes)

    mine = Mine.from_pretrained(clip, classes=3)
    torch.testing.assert_close(logits(mine, inputs), logits(hf.CLIPModel.from_pretrained(clip), inputs))
    assert mine.head.weight.shape == (3, 24)


def test_modules_that_would_not_be_called_are_refused(ours, inputs):
    changes = {
        "visual_projection is now a Identity, which miniclip does not call": lambda m: setattr(
            m, "visual_projection", nn.Identity()
        ),
        "text_model.encoder.layers.1 has a hook": lambda m: m.text_model.encoder.layers[1].register_forward_hook(print),
        "vision_model.encoder.layers.0 has a hook": lambda m: m.vision_model.encoder.layers[
            0
        ].register_full_backward_hook(print),
        "mlp.fc1 has another .* forward": lambda m: setattr(
            m.text_model.encoder.layers[0].mlp.fc1, "forward", torch.relu
        ),
        "vision_model.encoder.layers has another submodule": lambda m: m.vision_model.encoder.layers.append(
            copy.deepcopy(m.vision_model.encoder.layers[0])
        ),
        "visual_projection has another .* parameter": lambda m: setattr(
            m.visual_projection, "bias", nn.Parameter(torch.ones(24))
        ),
        "post_layernorm has another .* setting": lambda m: setattr(m.vision_model.post_layernorm, "eps", 0.5),
        "mlp has another submodule": lambda m: setattr(m.text_model.encoder.layers[0].mlp, "act", nn.ReLU()),
        "mlp.fc1 has another .* parameter": lambda m: setattr(m.text_model.encoder.layers[0].mlp.fc1, "bias", None),
    }
    for message, change in changes.items():
        model = copy.deepcopy(ours)
        logits(model, inputs)
        change(model)
        with pytest.raises(InputError, match=message):
            model(**inputs)
    with pytest.raises(InputError, match="only keeps parameters"):
        ours.text_model.encoder(inputs["input_ids"])


def _share(model):
    model.share_memory()
    return model.parameters()


def _flat(model):
    """All parameters become views of one vector."""
    parameters = list(model.parameters())
    vector = torch.cat([p.detach().flatten() for p in parameters])
    for p, part in zip(parameters, vector.split([p.numel() for p in parameters])):
        p.data = part.view_as(p)
    return [vector]


def _tie(model):
    layers = model.text_model.encoder.layers
    layers[1].self_attn.q_proj.weight = layers[0].self_attn.k_proj.weight
    return [layers[0].self_attn.k_proj.weight]


@pytest.mark.parametrize("change", [nn.Module.parameters, _share, _flat, _tie])
def test_what_is_written_to_data_is_seen(clip, inputs, change):
    """It counts in no version, so nothing may be kept that is not the parameters' own memory."""
    models = hf.CLIPModel.from_pretrained(clip), transformers.CLIPModel.from_pretrained(clip).eval()
    with torch.no_grad():
        for model in models:
            changed = change(model)
            logits(model, inputs)
            for x in changed:
                x.data.mul_(1.1)
        torch.testing.assert_close(*(logits(model, inputs) for model in models), rtol=1e-4, atol=1e-5)


def test_projections_of_another_width(clip, inputs):
    models = hf.CLIPModel.from_pretrained(clip), transformers.CLIPModel.from_pretrained(clip).eval()
    for model in models:
        torch.manual_seed(0)
        for name in ("visual_projection", "text_projection"):
            old = getattr(model, name)
            setattr(model, name, nn.Linear(old.in_features, 12, bias=False))
    torch.testing.assert_close(*(logits(model, inputs) for model in models), rtol=1e-4, atol=1e-5)


def test_parts_that_compute_are_called_as_in_transformers(clip, inputs):
    ours, theirs = hf.CLIPModel.from_pretrained(clip), transformers.CLIPModel.from_pretrained(clip).eval()
    x = torch.randn(2, 48)
    for name in ("text_projection", "text_model.final_layer_norm"):
        torch.testing.assert_close(ours.get_submodule(name)(x), theirs.get_submodule(name)(x))
    tokens = inputs["input_ids"]
    torch.testing.assert_close(ours.get_input_embeddings()(tokens), theirs.text_model.get_input_embeddings()(tokens))
    patches = (m.vision_model.embeddings.patch_embedding(inputs["pixel_values"]) for m in (ours, theirs))
    torch.testing.assert_close(*patches)
    alone = hf.CLIPTextModel.from_pretrained(clip)  # clients of transformers 4 look for a text_model inside
    assert alone.text_model.final_layer_norm is alone.final_layer_norm


def test_vocabularies_are_resized(clip):
    ours = hf.CLIPTextModelWithProjection.from_pretrained(clip)
    tokens = torch.tensor([[62, 4, 50]])
    with pytest.raises(InputError, match="token ids run from 4 to 62"):
        ours(tokens)
    old = ours.get_input_embeddings().weight.detach()
    assert len(ours.resize_token_embeddings(63).weight) == ours.config.vocab_size == 63
    torch.testing.assert_close(ours.get_input_embeddings().weight[62].detach(), old.mean(0))
    assert ours(tokens).text_embeds.shape == (1, 24)
