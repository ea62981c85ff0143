"""`miniclip bench models`: whole encoders, ours beside torch, transformers and torch.compile, with the same weights.

Calls as a user makes them, each alone on an idle device: launches count. Pictures and a peer's tokens are on the device
already; ours take tokens as the tokenizer gives them, in an ndarray, and bring them there in that time.
"""

import dataclasses
import math
import platform
import tempfile
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import torch

from miniclip import ops, params
from miniclip.align import ALIGN
from miniclip.checkpoints import huggingface
from miniclip.checkpoints.readers import read_json
from miniclip.config import ALIGN_BASE, PRESETS, ALIGNConfig, BertConfig, EfficientNetConfig, VisionConfig, pair
from miniclip.errors import InputError
from miniclip.kernels.bench import records, session, timing
from miniclip.model import CLIP
from miniclip.towers import efficientnet
from miniclip.wordpiece import LONGEST

OURS = {"cuda": "triton", "cpu": "numpy"}  # what backend="auto" takes
DTYPES = {"cuda": "bfloat16", "cpu": "float32"}
LEAST_COSINE = {"bfloat16": 0.999, "float32": 0.99999}  # of each feature with float32's
CONFIGS = {**PRESETS, "align-base": ALIGN_BASE}
TOWERS = [("visual", name) for name in PRESETS if isinstance(PRESETS[name].visual, VisionConfig)]
TOWERS.insert(1, ("text", "ViT-B/32"))
TOWERS += [("visual", "align-base"), ("text", "align-base")]
BATCHES = {("cuda", "visual"): (1, 8, 64, 256), ("cuda", "text"): (1, 64, 256), ("cpu", "visual"): (1, 8)}
BATCHES["cpu", "text"] = BATCHES["cpu", "visual"]
COMPILED = (256, 1)  # batches for which torch.compile is prepared, on a GPU
CHUNK = 32  # rows that the reference takes at a time
WARM_UP = 3  # calls: torch.compile records its graph in the second


class Case(NamedTuple):
    tower: str  # "visual" or "text"
    model: str
    batch: int
    compiled: bool = False

    @property
    def name(self):
        return f"{'encode_image' if self.tower == 'visual' else 'encode_text'} {self.model}"


def describe(case):
    return f"{case.name} B={case.batch}" + (" with torch.compile" if case.compiled else "")


def cases(device, towers=TOWERS, batches=None):
    """All without torch.compile first: where time runs out, what took its time to prepare comes last."""
    chosen = {tower: batches or BATCHES[device, tower] for tower, _ in towers}
    plain = [Case(tower, model, batch) for tower, model in towers for batch in chosen[tower]]
    compiled = [Case(tower, model, B, True) for tower, model in towers for B in COMPILED if B in chosen[tower]]
    return plain + (compiled if device == "cuda" else [])


def run(*, only=None, quick=False, device="cuda", seconds=None, out=None, configs=CONFIGS, towers=TOWERS, batches=None):
    """Measure `cases`, print and record them; no case is begun after `seconds`.

    InputError where the device is not there, and at the end where features of ours were wrong.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("torch sees no CUDA GPU: pass --device cpu to compare the backends that run without one")
    directory = records.writable(out)
    chosen = session.select(cases(device, towers, batches), only, lambda case: case.name.split())
    most = max(case.batch for case in chosen)
    rounds = timing.QUICK_ROUNDS if quick else timing.ROUNDS
    # Cases of one tower follow each other: it is built once for all its batches.
    build = lru_cache(maxsize=1)(lambda tower, model, *how: prepare(configs[model], tower, device, most, *how))
    with torch.no_grad():
        facts = {
            "dtype": DTYPES[device],
            "device": torch.cuda.get_device_name() if device == "cuda" else _processor(),
            "versions": records.versions(),
            "date": records.today(),
            "ceilings": timing.ceilings(getattr(torch, DTYPES[device])) if device == "cuda" else None,
        }

        def measure_one(case):
            return measure(case, configs[case.model], build(case.tower, case.model, case.compiled), rounds, facts)

        session.run(chosen, measure_one, describe, directory, seconds)


def measure(case, config, prepared, rounds, facts):
    """A case's record; without times for those whose features are wrong, and for those that raise."""
    encoders, missing, inputs, reference = prepared
    device = inputs.device.type
    calls = {name: partial(encode, ready(inputs[: case.batch])) for name, (encode, ready) in encoders.items()}
    errors = {}

    def check(name, features):
        errors[name] = compare(features, reference[: case.batch], facts["dtype"])

    right, skipped = session.attempt(calls, check)
    ours, times, samples = OURS[device], {}, 0
    if ours in right:
        for call in right.values():
            for _ in range(WARM_UP if device == "cuda" else 0):
                call()
        clock = timing.CUDA if device == "cuda" else timing.CPU
        times, samples = timing.medians(right, clock, rounds, alone=True)
    flops, numbers = work(alone(config, case.tower), case.tower, case.batch)
    size = numbers * getattr(torch, facts["dtype"]).itemsize
    limit = timing.limit(flops, size, facts["ceilings"])[0] if facts["ceilings"] else None
    return {
        "name": case.name,
        "shape": {"B": case.batch},
        **facts,
        "ours": ours,
        "times": times,
        "skipped": missing | skipped,
        "samples": samples,
        "value": case.batch / times[ours] * 1e6 if times else None,
        "unit": {"visual": "pictures/s", "text": "texts/s"}[case.tower],
        **records.figures(times, ours, limit),
        "flops": flops,
        "bytes": size,
        "error": errors.get(ours),
        "allowed_error": 1 - LEAST_COSINE[facts["dtype"]],
    }


def alone(config, tower):
    """A model of one tower, as transformers has it: ALIGN's texts have no projection there."""
    config = dataclasses.replace(config, **{"text" if tower == "visual" else "visual": None})
    return dataclasses.replace(config, embed_dim=None) if isinstance(config.text, BertConfig) else config


def compare(features, reference, dtype):
    """1 - the least cosine of features (B, E) with the reference's; WrongAnswer where it is too large."""
    features = torch.as_tensor(features).to(reference.device, torch.float64)
    if features.shape != reference.shape or not torch.isfinite(features).all():
        raise session.WrongAnswer(f"it is wrong: features {tuple(features.shape)} are misshaped or not finite")
    cosine = torch.cosine_similarity(features, reference, dim=-1).min().item()
    if not cosine >= LEAST_COSINE[dtype]:
        raise session.WrongAnswer(f"it is wrong: a cosine with float32's is {cosine:.5f}, not {LEAST_COSINE[dtype]}")
    return 1 - cosine


def work(config, tower, batch):
    """(FLOPs, numbers moved) that a tower's features need: all parameters and inputs once; intermediates need not move.

    The last block computes but one token, beyond keys and values.
    """
    c = getattr(config, tower)
    if isinstance(c, EfficientNetConfig):
        return _work_of_convolutions(config, batch)
    D, M, E = c.width, c.mlp_width, config.embed_dim or 0
    if tower == "visual":
        T, pixels = math.prod(c.grid) + 1, c.channels * math.prod(pair(c.image_size))
        first, pairs = 2 * (T - 1) * D * c.channels * c.patch_size**2, T * T
    elif isinstance(c, BertConfig):
        T, pixels = LONGEST, 0
        first, pairs = 0, T * T
    else:
        T, pixels = c.context_length, 0
        first, pairs = 0, T * (T + 1) // 2
    block = 2 * T * (4 * D * D + 2 * D * M) + 4 * pairs * D
    last = 2 * T * 2 * D * D + 2 * (2 * D * D + 2 * D * M) + 4 * T * D
    shapes = params.flatten(config.shapes()[tower])
    weights = sum(math.prod(shape) for name, shape in shapes.items() if name != "embed.table")
    rows = 0 if tower == "visual" else batch * T * D  # of the table
    return batch * (first + (c.layers - 1) * block + last + 2 * D * E), weights + rows + batch * (pixels + (E or D))


def _work_of_convolutions(config, batch):
    """The same of an EfficientNet, whose activations and means are not counted."""
    c = config.visual
    W, cells = efficientnet.scaled(efficientnet.STEM, c), [(n - 2) // 2 + 1 for n in pair(c.image_size)]
    adds = math.prod(cells) * W * c.channels * 9
    for C, N, S, O, k, stride, padding, _ in efficientnet.layout(c):  # noqa: E741
        adds += math.prod(cells) * C * N * (N > C) + 2 * N * S
        cells = [(n + sum(padding) - k) // stride + 1 for n in cells]
        adds += math.prod(cells) * (N * k * k + N * O)
    weights = sum(math.prod(shape) for shape in params.flatten(config.shapes()["visual"]).values())
    return 2 * batch * adds, weights + batch * (c.channels * math.prod(pair(c.image_size)) + c.width)


# --------------------------------------------------------------------------- the same model, several times


def prepare(config, tower, device, most, compiled):
    """-> ({provider: (encode, what makes inputs ready for it)}, {provider: why it is missing}, inputs, reference).

    inputs: `most` random pictures or texts; reference (most, E): float32's features of them, in float64.
    """
    config = alone(config, tower)
    kind = ALIGN if isinstance(config, ALIGNConfig) else CLIP
    dtype = DTYPES[device]
    torch.manual_seed(0)
    flat = {name: _draw(name, shape, device) for name, shape in params.flatten(config.shapes()).items()}
    inputs = _inputs(config, tower, most, device)

    def ours(backend, dtype):
        encode = kind(config, params.unflatten(flat), ops.select(backend, device), device=device, dtype=dtype)
        encode = encode.encode_image if tower == "visual" else encode.encode_text
        on_device = tower == "visual" and backend != "numpy"
        return encode, (lambda x: x.to(getattr(torch, dtype))) if on_device else (lambda x: x.cpu().numpy())

    def theirs():
        encode = _transformers(config, tower, flat, device, getattr(torch, dtype))
        return encode, lambda x: x.to(getattr(torch, dtype)) if tower == "visual" else x

    def compiled_theirs():
        torch.compiler.reset()  # it gives up on a function after some shapes, and without a word
        encode, ready = theirs()
        return torch.compile(encode, mode="max-autotune", dynamic=False), ready

    builders = {OURS[device]: partial(ours, OURS[device], dtype), "torch": partial(ours, "torch", dtype)}
    builders["transformers"] = theirs
    if compiled:
        builders["transformers, compiled"] = compiled_theirs
    encoders = {}
    _, missing = session.attempt(builders, encoders.__setitem__)

    encode, ready = ours("torch", "float32")
    reference = torch.cat([encode(ready(inputs[i : i + CHUNK])) for i in range(0, most, CHUNK)]).double()
    return encoders, missing, inputs, reference


def _draw(name, shape, device):
    """Random parameters that keep sizes as they are on their way, so that every part has a say in the features."""
    if len(shape) >= 2:
        gain = 1.37 if len(shape) == 4 and "patch" not in name else 1  # what swish and excitation take away
        return torch.randn(shape, device=device) * gain * math.prod(shape[1:]) ** -0.5
    if name.endswith(".weight"):  # a layer norm's
        return torch.ones(shape, device=device)
    return torch.randn(shape, device=device) * 0.02


def _inputs(config, tower, count, device):
    if tower == "visual":
        return torch.randn(count, config.visual.channels, *pair(config.visual.image_size), device=device)
    if isinstance(config.text, BertConfig):
        return torch.randint(1, config.text.vocab_size, (count, LONGEST), device=device)
    end = config.text.vocab_size - 1  # the highest id ends a text, as long as a text can be
    tokens = torch.randint(end, (count, config.text.context_length), device=device)
    tokens[:, -1] = end
    return tokens


def _transformers(config, tower, flat, device, dtype):
    """transformers' own model of one tower with the same weights, as a function of pictures or tokens."""
    import transformers

    tree = params.unflatten({name: x.cpu().numpy() for name, x in flat.items()})
    with tempfile.TemporaryDirectory() as directory:
        huggingface.save(Path(directory, "m"), config, tree)
        (kind,) = read_json(Path(directory, "m", "config.json"))["architectures"]
        model = getattr(transformers, kind).from_pretrained(Path(directory, "m"))  # with SDPA where it knows how
    model = model.to(device, dtype).eval()
    if kind == "AlignVisionModel":
        return lambda x: model(x).pooler_output
    return lambda x: model(x)[0] if kind.startswith("CLIP") else model(x)[0][:, 0]  # [CLS]


def _processor():
    """The CPU's name, as Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, platform.processor() or platform.machine())
