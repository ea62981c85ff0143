"""`miniclip bench models`: whole encoders, ours beside torch, transformers and torch.compile, with the same weights.

Calls are as a user makes them, each alone on an idle device: launches count. Pictures are on the device already. Tokens
are where a tokenizer leaves them, on the CPU: moving them is part of everybody's time.
"""

import dataclasses
import math
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
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
from miniclip.kernels.bench import gpu_timing, isolated
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
TARGETS = [("visual", name) for name in ("ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px")]  # and for batches:
TARGET_BATCHES = (256, 1)
PLAIN, LONG = "default", "max-autotune"  # modes of torch.compile
COMPILED = {PLAIN: "transformers, compiled", LONG: "transformers, compiled with max-autotune"}
CHUNK = 32  # rows that the reference computes at a time
WARM_UP = 3  # calls: torch.compile records its graph in the second


class Case(NamedTuple):
    tower: str  # "visual" or "text"
    model: str
    batch: int
    modes: tuple = ()  # of torch.compile, which is measured too; on a GPU

    @property
    def name(self):
        return f"{'encode_image' if self.tower == 'visual' else 'encode_text'} {self.model}"


def describe(case):
    return f"{case.name} B={case.batch}" + (f" with torch.compile ({', '.join(case.modes)})" if case.modes else "")


def cases(device, towers=TOWERS, batches=None):
    """The cases for a device, in the order of interest: the last ones are left out if time runs out.

    On a GPU first what has a target, then the same beside torch.compile, which takes long to prepare, then the rest.
    """
    chosen = [Case(*tower, B) for tower in towers for B in batches or BATCHES[device, tower[0]]]
    if device != "cuda":
        return chosen
    first = [case for tower in TARGETS for B in TARGET_BATCHES for case in chosen if case == (*tower, B, ())]
    rest = [case for case in chosen if case not in first]
    large = [case for case in first if case.batch == max(TARGET_BATCHES)]
    small = [case for case in [*first, *rest] if case.batch in TARGET_BATCHES and case not in large]
    return [
        *first,
        *(case._replace(modes=(PLAIN,)) for case in large),
        *rest,
        *(case._replace(modes=(PLAIN, LONG)) for case in [*large, *small]),
    ]


def run(*, only=None, quick=False, device="cuda", seconds=None, out=None, configs=CONFIGS, towers=TOWERS, batches=None):
    """Measure `cases`, print and record them; no case is started after `seconds`.

    On a GPU, a case that raises, ends its process or hangs has a record that says so. Raises InputError if there is no
    such device, and at the end if features of ours were wrong or missing.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("torch sees no CUDA GPU: pass --device cpu to compare the backends that run without one")
    directory = records.writable(out or records.own(RESULTS))
    chosen = session.select(cases(device, towers, batches), only, lambda case: case.name.split())
    facts = {
        "dtype": DTYPES[device],
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu.name(),
        "versions": records.versions(),
        "date": records.today(),
    }
    most = max(case.batch for case in chosen)
    rounds = timing.QUICK_ROUNDS if quick else timing.ROUNDS
    make = partial(measurer, configs, device, most, rounds, facts)
    run_all = partial(session.run, chosen, describe=describe, directory=directory, seconds=seconds)
    if device == "cpu":
        with torch.no_grad():
            run_all(make())
    else:
        with isolated.Isolated(make, limit, seconds) as process:
            run_all(process.measure, failure=partial(failed, facts=facts))


def limit(case):
    """The seconds that a case may take: the first of a model builds it, and torch.compile reads all of it."""
    return 600 if LONG in case.modes else 180 if case.modes else 90


def measurer(configs, device, most, rounds, facts):
    """A function that measures a case; `most` is the largest batch. On a GPU all models are kept, on the CPU one."""
    build = lru_cache(maxsize=1 if device == "cpu" else None)(
        lambda tower, model: prepare(configs[model], tower, device, most)
    )
    try:
        ceilings = gpu_timing.ceilings(getattr(torch, facts["dtype"])) if device == "cuda" else None
    except Exception as error:  # a case is worth measuring without a limit
        print(f"the GPU's ceilings are not known: {session.reason(error)}", file=sys.stderr)
        ceilings = None
    facts = {**facts, "ceilings": ceilings}
    return lambda case: measure(case, configs[case.model], build(case.tower, case.model), device, rounds, facts)


def measure(case, config, prepared, device, rounds, facts):
    """The record of a case. Providers whose features are wrong, or that raise, have no time in it."""
    inputs, encoders = prepared.inputs, dict(prepared.encoders)
    compilers = {COMPILED[mode]: partial(prepared.compiled, mode) for mode in case.modes}
    _, failures = session.attempt(compilers, encoders.__setitem__)
    calls = {name: partial(encode, ready(inputs[: case.batch])) for name, (encode, ready) in encoders.items()}
    errors = {}

    def check(name, features):
        features = as_array(features)
        errors[name] = session.compare(features, prepared.reference[: case.batch], facts["dtype"])

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
        **_case(case, facts, device),
        "times": times,
        "skipped": prepared.missing | failures | skipped,
        "samples": samples,
        "value": case.batch / times[ours] * 1e6 if times else None,
        "unit": {"visual": "pictures/s", "text": "texts/s"}[case.tower],
        **records.figures(times, ours, limit),
        "flops": flops,
        "bytes": size,
        "error": errors.get(ours),
        "allowed_error": 1 - session.LEAST_COSINE[facts["dtype"]],
    }


def failed(case, reason, facts, device="cuda"):
    """The record of a case that could not be measured."""
    case_facts = _case(case, facts, device)
    if case.modes:  # else it would replace the record without torch.compile, which may be the cause
        case_facts["name"] += " with torch.compile"
    nothing = {"times": {}, "skipped": {OURS[device]: reason}, "samples": 0, "value": None, "unit": ""}
    return {**case_facts, **nothing, **records.figures({}, OURS[device])}


def _case(case, facts, device):
    return {"name": case.name, "shape": {"B": case.batch}, **facts, "ours": OURS[device]}


def as_array(features):
    """Features as an ndarray of float64."""
    return torch.as_tensor(features).double().cpu().numpy()


def alone(config, tower):
    """The configuration of one tower alone, as transformers has it: some text towers have no projection there."""
    config = dataclasses.replace(config, **{"text" if tower == "visual" else "visual": None})
    names = families.of(config).huggingface
    return dataclasses.replace(config, embed_dim=names.config_from(names.config_to(config)).embed_dim)


# --------------------------------------------------------------------------- the same model, several times


class Prepared(NamedTuple):
    """The encoders of a tower, with the same weights.

    encoders   {provider: (encode, what prepares inputs for it)}
    missing    {provider: why it is missing}
    inputs     random pictures, or texts
    reference  their features in float32, (B, E): an ndarray of float64
    compiled   (mode of torch.compile) -> transformers' encoder compiled, as in `encoders`
    """

    encoders: dict
    missing: dict
    inputs: torch.Tensor
    reference: np.ndarray
    compiled: Callable


def prepare(config, tower, device, most):
    """A tower's encoders as `Prepared`, with `most` inputs."""
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

    @lru_cache
    def transformers():
        return _transformers(config, tower, flat, device, getattr(torch, dtype))

    def theirs(mode=None):
        encode = transformers()
        if mode:
            torch.compiler.reset()  # it gives up on a function after some shapes, without a message
            encode = torch.compile(encode, mode=mode, dynamic=False)
        if tower == "visual":
            return encode, lambda x: x.to(getattr(torch, dtype))
        return (lambda tokens: encode(tokens.to(device))), lambda tokens: tokens

    builders = {OURS[device]: partial(ours, OURS[device], dtype), "torch": partial(ours, "torch", dtype)}
    builders["transformers"] = theirs
    encoders = {}
    _, missing = session.attempt(builders, encoders.__setitem__)

    encode, ready = ours("torch", "float32")
    reference = [as_array(encode(ready(inputs[i : i + CHUNK]))) for i in range(0, most, CHUNK)]
    return Prepared(encoders, missing, inputs, np.concatenate(reference), theirs)


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
    tokens = torch.randint(1, end, (count, config.text.text_length))
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
