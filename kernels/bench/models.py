"""`miniclip bench models`: whole encoders, ours beside torch, transformers and torch.compile, with the same weights.

Calls are as a user makes them, each alone on an idle device: launches count. Pictures, and tokens for a peer, are on
the device already. Ours take tokens as the tokenizer gives them, in an ndarray: moving them is part of the time.
"""

import dataclasses
import math
import tempfile
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import torch

from miniclip import families, ops, params
from miniclip.bench import records, session, timing
from miniclip.bench.work import work
from miniclip.checkpoints import huggingface
from miniclip.config import VisionConfig, pair
from miniclip.errors import InputError
from miniclip.families.align.config import ALIGN_BASE
from miniclip.families.clip.presets import PRESETS
from miniclip.formats import read_json
from miniclip.kernels.bench import gpu_timing
from miniclip.kernels.bench.report import RESULTS
from miniclip.runtime import cpu

OURS = {"cuda": "triton", "cpu": "numpy"}  # what backend="auto" takes
DTYPES = {"cuda": "bfloat16", "cpu": "float32"}
CONFIGS = {**PRESETS, "align-base": ALIGN_BASE}
TOWERS = [("visual", name) for name in PRESETS if isinstance(PRESETS[name].visual, VisionConfig)]
TOWERS.insert(1, ("text", "ViT-B/32"))
TOWERS += [("visual", "align-base"), ("text", "align-base")]
BATCHES = {("cuda", "visual"): (1, 8, 64, 256), ("cuda", "text"): (1, 64, 256), ("cpu", "visual"): (1, 8)}
BATCHES["cpu", "text"] = BATCHES["cpu", "visual"]
COMPILED = (256, 1)  # batches for which torch.compile is prepared, on a GPU
CHUNK = 32  # rows that the reference computes at a time
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
    """The cases for a device: those with torch.compile are last, since they take long to prepare."""
    chosen = {tower: batches or BATCHES[device, tower] for tower, _ in towers}
    plain = [Case(tower, model, batch) for tower, model in towers for batch in chosen[tower]]
    compiled = [Case(tower, model, B, True) for tower, model in towers for B in COMPILED if B in chosen[tower]]
    return plain + (compiled if device == "cuda" else [])


def run(*, only=None, quick=False, device="cuda", seconds=None, out=None, configs=CONFIGS, towers=TOWERS, batches=None):
    """Measure `cases`, print and record them; no case is started after `seconds`.

    Raises InputError if there is no such device, and at the end if features of ours were wrong.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("torch sees no CUDA GPU: pass --device cpu to compare the backends that run without one")
    directory = records.writable(out or records.own(RESULTS))
    chosen = session.select(cases(device, towers, batches), only, lambda case: case.name.split())
    most = max(case.batch for case in chosen)
    rounds = timing.QUICK_ROUNDS if quick else timing.ROUNDS
    # Cases of one tower are next to each other: it is built once for all its batches.
    build = lru_cache(maxsize=1)(lambda tower, model, *how: prepare(configs[model], tower, device, most, *how))
    with torch.no_grad():
        facts = {
            "dtype": DTYPES[device],
            "device": torch.cuda.get_device_name() if device == "cuda" else cpu.name(),
            "versions": records.versions(),
            "date": records.today(),
            "ceilings": gpu_timing.ceilings(getattr(torch, DTYPES[device])) if device == "cuda" else None,
        }

        def measure_one(case):
            return measure(case, configs[case.model], build(case.tower, case.model, case.compiled), rounds, facts)

        session.run(chosen, measure_one, describe, directory, seconds)


def measure(case, config, prepared, rounds, facts):
    """The record of a case. Providers whose features are wrong, or that raise, have no time in it."""
    encoders, missing, inputs, reference = prepared
    device = inputs.device.type
    calls = {name: partial(encode, ready(inputs[: case.batch])) for name, (encode, ready) in encoders.items()}
    errors = {}

    def check(name, features):
        features = torch.as_tensor(features).double().cpu().numpy()
        errors[name] = session.compare(features, reference[: case.batch], facts["dtype"])

    right, skipped = session.attempt(calls, check)
    ours, times, samples = OURS[device], {}, 0
    if ours in right:
        for call in right.values():
            for _ in range(WARM_UP if device == "cuda" else 0):
                call()
        clock = gpu_timing.CUDA if device == "cuda" else timing.CPU
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
        "allowed_error": 1 - session.LEAST_COSINE[facts["dtype"]],
    }


def alone(config, tower):
    """The configuration of one tower alone, as transformers has it: some text towers have no projection there."""
    config = dataclasses.replace(config, **{"text" if tower == "visual" else "visual": None})
    names = families.of(config).huggingface
    return dataclasses.replace(config, embed_dim=names.config_from(names.config_to(config)).embed_dim)


# --------------------------------------------------------------------------- the same model, several times


def prepare(config, tower, device, most, compiled):
    """({provider: (encode, what prepares inputs for it)}, {provider: why it is missing}, inputs, reference).

    inputs: `most` random pictures or texts; reference (most, E): their features in float32, as an ndarray of float64.
    """
    config = alone(config, tower)
    kind = families.of(config).model
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
        torch.compiler.reset()  # it gives up on a function after some shapes, without a message
        encode, ready = theirs()
        return torch.compile(encode, mode="max-autotune", dynamic=False), ready

    builders = {OURS[device]: partial(ours, OURS[device], dtype), "torch": partial(ours, "torch", dtype)}
    builders["transformers"] = theirs
    if compiled:
        builders["transformers, compiled"] = compiled_theirs
    encoders = {}
    _, missing = session.attempt(builders, encoders.__setitem__)

    encode, ready = ours("torch", "float32")
    reference = torch.cat([encode(ready(inputs[i : i + CHUNK])) for i in range(0, most, CHUNK)]).double().cpu().numpy()
    return encoders, missing, inputs, reference


def _draw(name, shape, device):
    """Random parameters that keep numbers at the same size through the tower: every part matters for the features."""
    if len(shape) >= 2:
        gain = 1.37 if len(shape) == 4 and "patch" not in name else 1  # for what swish and excitation take away
        return torch.randn(shape, device=device) * gain * math.prod(shape[1:]) ** -0.5
    if name.endswith(".weight"):  # a layer norm's
        return torch.ones(shape, device=device)
    return torch.randn(shape, device=device) * 0.02


def _inputs(config, tower, count, device):
    if tower == "visual":
        return torch.randn(count, config.visual.channels, *pair(config.visual.image_size), device=device)
    end = config.text.vocab_size - 1  # the highest id ends a text, as long as a text can be
    tokens = torch.randint(1, end, (count, config.text.text_length), device=device)
    tokens[:, -1] = end
    return tokens


def _transformers(config, tower, flat, device, dtype):
    """A function of pictures or tokens: transformers' own model of one tower, with the same weights."""
    import transformers

    tree = params.unflatten({name: x.cpu().numpy() for name, x in flat.items()})
    with tempfile.TemporaryDirectory() as directory:
        huggingface.save(Path(directory, "m"), config, tree)
        (kind,) = read_json(Path(directory, "m", "config.json"))["architectures"]
        model = getattr(transformers, kind).from_pretrained(Path(directory, "m"))  # with SDPA if the model supports it
    model = model.to(device, dtype).eval()
    if kind == "AlignVisionModel":
        return lambda x: model(x).pooler_output
    return lambda x: model(x)[0] if kind.startswith("CLIP") else model(x)[0][:, 0]  # [CLS]
