"""The stages of an encoding, {name: value}: those of our models, of transformers' models, and a comparison."""

import torch


def traced(model, encode, *args, **options):
    """What one of our models shows while it encodes."""
    stages = {}
    encode(*args, **options, trace=lambda name, x: stages.update({name: model.ops.to_numpy(x)}))
    return stages


def outputs(modules, run):
    """What each of the modules returns while `run` runs, and the result of `run`."""
    found = []
    hooks = [part.register_forward_hook(lambda part, inputs, output: found.append(output)) for part in modules]
    with torch.no_grad():
        result = run()
    for hook in hooks:
        hook.remove()
    return found, result


def block_stages(output, attended):
    """The embeddings and the stages of all blocks, from a tower's output and x after each block's attention."""
    stages = {"embeddings": output.hidden_states[0]}
    for i, x in enumerate(attended):
        stages[f"blocks.{i}.attention_weights"] = output.attentions[i]
        stages[f"blocks.{i}.attention"] = x
        stages[f"blocks.{i}.mlp"] = output.hidden_states[i + 1]
    return stages


@torch.no_grad()
def siglip_block_stages(encoder, output, mask=None):
    """`block_stages` of a SigLIP's tower; mask (B, N)."""
    hidden = None if mask is None else torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))[:, None, None]
    layers = zip(encoder.layers, output.hidden_states)
    attended = [x + layer.self_attn(layer.layer_norm1(x), attention_mask=hidden)[0] for layer, x in layers]
    return block_stages(output, attended)


@torch.no_grad()
def siglip_image_stages(official, output, mask=None):
    """All stages of the image tower of a SigLIP; mask (B, N) of a NaFlex."""
    head, last = official.vision_model.head, output.last_hidden_state
    probe, hidden = head.probe.repeat(len(last), 1, 1), None if mask is None else ~mask
    attended, weights = head.attention(probe, last, last, key_padding_mask=hidden, average_attn_weights=False)
    return {
        **siglip_block_stages(official.vision_model.encoder, output, mask),
        "ln_post": last,
        "attention_pool.attention_weights": weights,
        "attention_pool.attention": attended[:, 0],
        "features": output.pooler_output,
    }


def compare(ours, theirs, error):
    """Compare the stages that two models show, in their order."""
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert ours[name].shape == tuple(value.shape), name
        found = error(ours[name], value.numpy())
        assert found < 1e-5, f"{name} is off by {found:.1e} of its largest value"
