"""`miniclip bench cpu`: CLIP on this machine's processor, files to features, search and training, against its peers.

Calls are made as users make them. They take turns, each alone on idle cores; one of them is a plain matrix product,
which shows the limit of the processor, and whether it was as fast as in other cases. Answers are compared with
transformers' and the official code's, or, if those are not installed, with ours.
"""

import functools
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from miniclip.bench import (
    cpu_embed,
    cpu_features,
    cpu_inputs,
    cpu_search,
    cpu_starts,
    cpu_training,
    machine,
    records,
    report_cpu,
    session,
    timing,
)
from miniclip.bench.measurement import NOTHING, ON_ONNX_RUNTIME, ON_TORCH, OURS, save_random
from miniclip.bench.records import is_ours
from miniclip.families.clip.presets import PRESETS
from miniclip.runtime import cpu

MODEL = "ViT-B/32"
PACKAGES = ("numpy", "pillow", "ftfy", "torch", "transformers", "tokenizers", "onnxruntime", "openvino", "openai-clip")
PACKAGES += ("open_clip_torch", "faiss-cpu", "hf-processors-rs", "tiktoken")
SECONDS = 15  # time for the rounds of one case; building, checking and warming up come on top
SIDE = 2048  # rows and columns of the matrices whose product is the limit
NOT_HERE = ("ImportError", "ModuleNotFoundError", "InputError")  # of a provider that this machine does not have


class Case(NamedTuple):
    name: str
    shape: dict
    dtype: str
    prepare: Callable  # (model, dtype=, **shape) -> Measurement
    ours: str = OURS  # the provider that a row is about; if it has no time, the fastest of ours
    needs: tuple = ()  # features of the processor, see `cpu.has`


def describe(case):
    return " ".join([case.name, *(f"{name}={value}" for name, value in case.shape.items()), case.dtype])


def run(*, only=None, quick=False, seconds=None, out=None, as_json=False, cases=None, config=PRESETS[MODEL]):
    """Measure CASES, print and record the results; no case begins after `seconds`. `as_json`: print only JSON.

    only  names of cases, or words that names begin with, or dtypes, with commas between them; None: all

    What is finished is printed also after Ctrl-C. Raises InputError at the end if an answer of ours was wrong.
    """
    directory = records.writable(out or records.own(report_cpu.RESULTS))
    cases = [case for case in cases or CASES if cpu.has(*case.needs)]
    chosen = session.select(cases, only, lambda case: [case.name, case.name.partition(" ")[0], case.dtype])
    rounds = timing.QUICK_ROUNDS if quick else timing.ROUNDS
    facts = {**machine.facts(), "versions": records.package_versions(PACKAGES), "date": records.today()}
    print(machine.describe(facts), file=sys.stderr, flush=True)
    products = {"float32": statistics.median(_alone(product_of_matrices("float32")))}
    found = []

    def show(record):
        found.append(record)
        if not as_json:
            session.print_record(record)

    with tempfile.TemporaryDirectory() as scratch:
        model = save_random(config, Path(scratch))
        try:
            work = lambda case: measure(case, model, rounds, facts, products)  # noqa: E731
            session.run(chosen, work, describe, directory, seconds, show)
        finally:
            print(json.dumps(found, indent=1) if as_json else report_cpu.section(found))


def measure(case, model, rounds, facts, products=None):
    """A case's record, or None if no provider of ours is here. Those that are not here or are wrong have no times.

    products  {dtype: the least time of a plain matrix product in this run}, which this call updates
    """
    products = {} if products is None else products
    print(f"{describe(case)} ...", file=sys.stderr, flush=True)  # a case takes a minute or two
    made, calls, cosines = {}, {}, {}
    _, failed = session.attempt(
        {case.ours: lambda: case.prepare(model, dtype=case.dtype, **case.shape)}, made.__setitem__
    )
    m = made.get(case.ours, NOTHING)
    _, missing = session.attempt(m.builders, calls.__setitem__)
    if made and all(missing.get(name, "").startswith(NOT_HERE) for name in m.builders if is_ours(name)):
        print(f"not measured: {'; '.join(missing[name] for name in m.builders if is_ours(name))}", file=sys.stderr)
        return None

    def check(name, answer):
        cosine = m.check(name, answer)
        if cosine is not None:
            cosines[name] = round(cosine, 7)

    right, skipped = session.attempt(calls, check)
    taken, samples, watch, product = {}, 0, machine.Watch(), "float32" if case.dtype != "bfloat16" else case.dtype
    if any(map(is_ours, right)):
        runs = {**right, "product": product_of_matrices(product)}
        with watch:
            taken, samples = timing.samples(runs, timing.CPU, rounds, alone=True, seconds=SECONDS)
    times = {name: statistics.median(some) for name, some in taken.items()}
    limit = times.pop("product", None)
    products[product] = min(limit or np.inf, products.get(product, np.inf))
    fastest = records.fastest(times)
    ours = case.ours if case.ours in times or fastest is None else fastest
    peers = {name: time for name, time in times.items() if name == ours or not name.startswith(OURS)}
    least = limit * m.flops / (2 * SIDE**3) if limit and m.flops and case.dtype == product else None
    figures = records.figures(peers, ours, least)
    shown = {name: machine.spread(taken[name]) for name in {ours, fastest, figures["best_peer"]} if name in taken}
    return {
        "name": case.name,
        "shape": case.shape,
        "dtype": case.dtype,
        **facts,
        "ours": ours,
        "times": times,
        "skipped": failed | missing | skipped,
        "wrong": [name for name in skipped if is_ours(name) and skipped[name].startswith("WrongAnswer")],
        "cosines": cosines,
        "samples": samples,
        "value": m.count / times[ours] * 1e6 if times else None,
        "unit": m.unit,
        **figures,
        "fastest": fastest,
        "ratio_of_fastest": times[figures["best_peer"]] / times[fastest] if figures["best_peer"] else None,
        "product": 2 * SIDE**3 / limit / 1e3 if limit else None,  # GFLOP/s of the plain matrix product
        "others": watch.others,
        "spread": max(shown.values(), default=None),
        "doubts": machine.doubts(facts, watch.others, shown, limit / products[product] if limit else 1),
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


def _alone(call):
    """The times of a few calls, alone on the processor."""
    return timing.samples({"": call}, timing.CPU, timing.QUICK_ROUNDS, alone=True)[0][""]


IMAGE, TEXT = f"encode_image {MODEL}", f"encode_text {MODEL}"
BFLOAT16 = ("avx512_bf16",)
CASES = [
    *(Case(IMAGE, {"B": B}, "float32", cpu_features.encode_image) for B in (32, 8, 1)),
    *(Case(IMAGE, {"B": B}, "bfloat16", cpu_features.encode_image, ON_TORCH, BFLOAT16) for B in (32, 8, 1)),
    *(Case(IMAGE, {"B": B}, "int8", cpu_features.encode_image, ON_ONNX_RUNTIME) for B in (32, 8, 1)),
    Case("encode_image ALIGN-base", {"B": 1}, "float32", functools.partial(cpu_features.encode_image_of, "ALIGN-base")),
    Case(
        "encode_image SigLIP-base", {"B": 32}, "float32", functools.partial(cpu_features.encode_image_of, "SigLIP-base")
    ),
    *(Case(TEXT, {"texts": n}, "float32", cpu_features.encode_text) for n in (128, 1)),
    Case(TEXT, {"texts": 128, "T": 77}, "float32", cpu_features.encode_text),
    Case("tokenize", {"texts": 20_000}, "int32", cpu_inputs.tokenize),
    Case("tokenize", {"texts": 20_000, "new": True}, "int32", cpu_inputs.tokenize),
    Case("preprocess", {"files": 8, "megapixels": 12}, "float32", cpu_inputs.preprocess),
    Case("preprocess", {"files": 64, "megapixels": 0.3072}, "float32", cpu_inputs.preprocess),
    Case(f"embed {MODEL}", {"files": 64, "megapixels": 0.05}, "float32", cpu_embed.embed_pictures),
    Case("embed shapes", {"files": 512, "megapixels": 0.01}, "float32", cpu_embed.embed_with_built_in),
    Case(f"load {MODEL}", {}, "float32", cpu_starts.load),
    Case(f"first picture {MODEL}", {}, "float32", cpu_starts.first_picture),
    Case("classify shapes", {}, "float32", cpu_starts.classify),
    Case("training gradients shapes", {"B": 76}, "float32", cpu_training.gradients),
    Case("training shapes", {"B": 76}, "float32", cpu_training.steps_of_built_in, ON_TORCH),
    Case(f"training {MODEL}", {"B": 16}, "float32", cpu_training.steps, ON_TORCH),
    Case("training loss", {"B": 16_384, "E": 512}, "float32", cpu_training.contrastive_loss),
    *(Case("search", {"rows": 1_000_000, "queries": q}, "float32", cpu_search.search) for q in (1, 64)),
]
