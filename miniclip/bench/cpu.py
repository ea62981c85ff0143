"""`miniclip bench cpu`: CLIP on this machine's processor, files to features, search and training, against its peers.

Calls are made as users make them. They take turns, each alone on idle cores; one of them is a plain matrix product,
which shows the limit of the processor. Answers are compared with transformers' and the official code's, or, if those
are not installed, with ours.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from miniclip.bench import cpu_embed, cpu_search, cpu_training, records, session, timing
from miniclip.bench.cpu_features import ON_TORCH, classify, encode_image, encode_text, first_picture, load
from miniclip.bench.cpu_inputs import preprocess, tokenize
from miniclip.bench.measurement import NOTHING, OURS, save_random
from miniclip.bench.report_cpu import RESULTS
from miniclip.families.clip.presets import PRESETS
from miniclip.runtime import cpu

MODEL = "ViT-B/32"
PACKAGES = ("numpy", "pillow", "ftfy", "torch", "transformers", "tokenizers", "onnxruntime", "openai-clip")
PACKAGES += ("open_clip_torch", "faiss-cpu")
SECONDS = 30  # time for the rounds of one case, and the same again for warming up
SIDE = 2048  # rows and columns of the matrices whose product is the limit


class Case(NamedTuple):
    name: str
    shape: dict
    dtype: str
    prepare: Callable  # (model, dtype=, **shape) -> Measurement
    ours: str = OURS
    needs: tuple = ()  # features of the processor, see `cpu.has`


def describe(case):
    return " ".join([case.name, *(f"{name}={value}" for name, value in case.shape.items()), case.dtype])


def run(*, only=None, quick=False, seconds=None, out=None, as_json=False, cases=None, config=PRESETS[MODEL]):
    """Measure CASES, print and record the results; no case begins after `seconds`. `as_json`: print only JSON.

    Raises InputError at the end if an answer of ours was wrong.
    """
    directory = records.writable(out or records.own(RESULTS))
    cases = [case for case in cases or CASES if cpu.has(*case.needs)]
    chosen = session.select(cases, only, lambda case: [case.name, case.name.partition(" ")[0]])
    rounds = timing.QUICK_ROUNDS if quick else timing.ROUNDS
    facts = {
        "device": cpu.name(),
        "cores": cpu.blas_threads(),
        "kernel": ", ".join(library.get("architecture") or library["internal_api"] for library in cpu.blas()),
        "chosen": os.environ.get(cpu.CORETYPE),  # the kernel that was set; None: OpenBLAS chose it
        "versions": records.package_versions(PACKAGES),
        "date": records.today(),
    }
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        model = save_random(config, Path(scratch))
        try:
            show = found.append if as_json else session.print_record
            session.run(chosen, lambda case: measure(case, model, rounds, facts), describe, directory, seconds, show)
        finally:
            if as_json:
                print(json.dumps(found, indent=1))


def measure(case, model, rounds, facts):
    """A case's record. Providers with wrong answers and providers that are not installed have no times."""
    print(f"{describe(case)} ...", file=sys.stderr, flush=True)  # a case takes a minute or two
    made, calls = {}, {}
    _, failed = session.attempt(
        {case.ours: lambda: case.prepare(model, dtype=case.dtype, **case.shape)}, made.__setitem__
    )
    m = made.get(case.ours, NOTHING)
    _, missing = session.attempt(m.builders, calls.__setitem__)
    right, skipped = session.attempt(calls, m.check)
    times, samples, limit = {}, 0, None
    if case.ours in right:
        product = {"product": product_of_matrices(case.dtype)} if m.flops else {}
        runs = {**right, **product}
        times, samples = timing.medians(runs, timing.CPU, rounds, alone=True, seconds=SECONDS)
        limit = times.pop("product") * m.flops / (2 * SIDE**3) if product else None
    peers = {name: time for name, time in times.items() if name == case.ours or not name.startswith(OURS)}
    return {
        "name": case.name,
        "shape": case.shape,
        "dtype": case.dtype,
        **facts,
        "ours": case.ours,
        "times": times,
        "skipped": failed | missing | skipped,
        "samples": samples,
        "value": m.count / times[case.ours] * 1e6 if times else None,
        "unit": m.unit,
        **records.figures(peers, case.ours, limit),
        "flops": m.flops,
        **m.facts,
    }


def product_of_matrices(dtype):
    """A call that multiplies two matrices on all cores: NumPy in float32, torch in bfloat16."""
    if dtype == "float32":
        a, b = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), np.float32)
    else:
        import torch

        a, b = torch.randn(2, SIDE, SIDE, dtype=torch.bfloat16)
    return lambda: a @ b


CASES = [
    *(Case(f"encode_image {MODEL}", {"B": B}, "float32", encode_image) for B in (32, 1)),
    *(Case(f"encode_image {MODEL}", {"B": B}, "bfloat16", encode_image, ON_TORCH, ("avx512_bf16",)) for B in (32, 1)),
    Case(f"encode_text {MODEL}", {"texts": 128}, "float32", encode_text),
    Case(f"encode_text {MODEL}", {"texts": 128, "T": 77}, "float32", encode_text),
    Case("tokenize", {"texts": 20_000}, "int32", tokenize),
    Case("tokenize", {"texts": 20_000, "new": True}, "int32", tokenize),
    Case("preprocess", {"files": 8, "megapixels": 12}, "float32", preprocess),
    Case(f"embed {MODEL}", {"files": 64, "megapixels": 0.05}, "float32", cpu_embed.embed_pictures),
    Case("embed shapes", {"files": 512, "megapixels": 0.01}, "float32", cpu_embed.embed_with_built_in),
    Case(f"load {MODEL}", {}, "float32", load),
    Case(f"first picture {MODEL}", {}, "float32", first_picture),
    Case("classify shapes", {}, "float32", classify),
    Case("training gradients shapes", {"B": 76}, "float32", cpu_training.gradients),
    Case("training shapes", {"B": 76}, "float32", cpu_training.steps_of_built_in, ON_TORCH),
    Case(f"training {MODEL}", {"B": 16}, "float32", cpu_training.steps, ON_TORCH),
    Case("training loss", {"B": 16_384, "E": 512}, "float32", cpu_training.contrastive_loss),
    *(Case("search", {"rows": 1_000_000, "queries": q}, "float32", cpu_search.search) for q in (1, 64)),
]
