"""ClipCap's model with random weights, from transformers' GPT-2 and torch's own layers: what its files are made of."""

import torch
import transformers

from miniclip.caption import clipcap
from miniclip.config import TextConfig
from miniclip.families import names
from miniclip.params import unflatten

GPT = {ours: theirs for ours, theirs in clipcap.NAMES.items() if ours.startswith("gpt.")}


def gpt2(model):
    """(configuration, parameter tree) in miniclip of transformers' GPT2LMHeadModel."""
    tensors = {f"gpt.{name}": x.detach().numpy() for name, x in model.state_dict().items() if name != "lm_head.weight"}
    c = model.config
    config = TextConfig(
        c.n_positions, c.vocab_size, c.n_embd, c.n_layer, c.n_head, 4 * c.n_embd, activation="gelu_tanh"
    )
    return config, unflatten(names.rename(tensors, GPT))["gpt"]


def layer(width):
    """The parts of a block of the mapping network, with the names of the original's parameters."""
    linear, parts = torch.nn.Linear, torch.nn.ModuleDict
    queries, keys_values = linear(width, width, bias=False), linear(width, 2 * width, bias=False)
    return parts(
        {
            "norm1": torch.nn.LayerNorm(width),
            "attn": parts({"to_queries": queries, "to_keys_values": keys_values, "project": linear(width, width)}),
            "norm2": torch.nn.LayerNorm(width),
            "mlp": parts({"fc1": linear(width, 2 * width), "fc2": linear(2 * width, width)}),
        }
    )


class ClipCap(torch.nn.Module):
    """gpt, and clip_project of a kind: "mlp", "linear" or "transformer"; `prefix(features)` is (B, P, D)."""

    def __init__(self, kind, *, embed_dim=32, prefix=4, width=64, vocabulary=40, seed=0, tokens=3):
        super().__init__()
        torch.manual_seed(seed)
        end = {"bos_token_id": None, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1}
        config = transformers.GPT2Config(
            vocab_size=vocabulary, n_positions=100, n_embd=width, n_layer=2, n_head=width // 64,
            initializer_range=0.15, **end,
        )  # fmt: skip
        self.kind, self.shape, self.tokens = kind, (prefix, width), tokens
        self.gpt = transformers.GPT2LMHeadModel(config).eval()
        out = prefix * width
        if kind == "mlp":
            first, last = torch.nn.Linear(embed_dim, out // 2), torch.nn.Linear(out // 2, out)
            self.clip_project = torch.nn.ModuleDict({"model": torch.nn.Sequential(first, torch.nn.Tanh(), last)})
        elif kind == "linear":
            self.clip_project = torch.nn.Linear(embed_dim, out)
        else:
            blocks = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([layer(width) for _ in range(2)])})
            self.clip_project = torch.nn.ModuleDict(
                {"transformer": blocks, "linear": torch.nn.Linear(embed_dim, tokens * width)}
            )
            self.clip_project.prefix_const = torch.nn.Parameter(torch.randn(prefix, width))

    @torch.no_grad()
    def prefix(self, features):
        project = self.clip_project
        if self.kind == "linear":
            return project(features).reshape(-1, *self.shape)
        if self.kind == "mlp":
            return project["model"](features).reshape(-1, *self.shape)
        x = project["linear"](features).reshape(len(features), self.tokens, -1)  # (B, C, D)
        x = torch.cat([x, project.prefix_const.expand(len(x), -1, -1)], dim=1)  # (B, C + P, D)
        for p in project["transformer"]["layers"]:
            y = p["norm1"](x)
            q, k, v = p["attn"]["to_queries"](y), *p["attn"]["to_keys_values"](y).chunk(2, dim=-1)
            q, k, v = (z.reshape(*z.shape[:2], 8, -1).transpose(1, 2) for z in (q, k, v))  # (B, 8, T, K)
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
            x = x + p["attn"]["project"](y)
            x = x + p["mlp"]["fc2"](p["mlp"]["fc1"](p["norm2"](x)).relu())
        return x[:, self.tokens :]  # (B, P, D)
