"""`miniclip bench cpu`: CLIP on this machine's processor, from files to features, beside the peers that are installed.

Every call as a user makes it, in turns, each alone on idle cores; and in the same turns a plain matrix product, which
says what the processor can do. Answers are held to transformers' and the official code's where they are there, else to
ours.
"""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from miniclip import api, params, processor, vocabulary
from miniclip.checkpoints import huggingface, huggingface_clip
from miniclip.config import PRESETS
from miniclip.image import MEAN, STD
from miniclip.kernels.bench import captions, records, session, timing
from miniclip.kernels.bench.work import work
from miniclip.tokenizer import Tokenizer

MODEL = "ViT-B/32"
OURS, ON_TORCH, ONE_CORE = "miniclip", "miniclip on torch", "miniclip, one core"
TRANSFORMERS, OFFICIAL = "transformers", "official"
PACKAGES = ("numpy", "pillow", "ftfy", "torch", "transformers", "tokenizers", "onnxruntime", "openai-clip")
SECONDS = 30  # that the rounds of one case may take, and as long again to wake what runs
SIDE = 2048  # of the matrices whose product is the limit
CORPORA = 36  # of new captions: more than there are calls, so that none comes twice
BATCH = 32  # captions that a peer pads to the longest among them


class Case(NamedTuple):
    name: str
    shape: dict
    dtype: str
    prepare: Callable  # (model, dtype=, **shape) -> Measurement
    ours: str = OURS
    needs: str = "fpu"  # of the processor


class Measurement(NamedTuple):
    builders: dict  # {provider: () -> its call, without arguments}, raising where it is not installed
    check: Callable  # (provider, what its call gave), raising WrongAnswer
    count: int  # what a call does so many of,
    unit: str  # a second
    flops: float | None = None  # of a call, where it is made of matrix products
    facts: dict = {}  # noqa: RUF012 what else the record says


NOTHING = Measurement({}, lambda name, answer: None, 0, "")  # where a case cannot be prepared


class Model(NamedTuple):
    config: object
    path: Path  # of a directory of transformers', with random weights
    scratch: Path  # for other files


def describe(case):
    return " ".join([case.name, *(f"{name}={value}" for name, value in case.shape.items()), case.dtype])


def run(*, only=None, quick=False, seconds=None, out=None, as_json=False, cases=None, config=PRESETS[MODEL]):
    """Measure CASES, print and record them; no case is begun after `seconds`. With `as_json` it prints JSON alone.

    InputError at the end where an answer of ours was wrong.
    """
    directory = records.writable(records.CPU if out is None else out)
    cases = [case for case in cases or CASES if case.needs == "fpu" or processor.has(case.needs)]
    chosen = session.select(cases, only, lambda case: [case.name])
    rounds = timing.QUICK_ROUNDS if quick else timing.ROUNDS
    facts = {
        "device": processor.name(),
        "cores": processor.blas_threads(),
        "kernel": ", ".join(library.get("architecture") or library["internal_api"] for library in processor.blas()),
        "chosen": os.environ.get(processor.CORETYPE),  # as the kernel, or None: OpenBLAS itself has chosen it
        "versions": records.package_versions(PACKAGES),
        "date": records.today(),
    }
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        model = save_random(config, Path(scratch))
        try:
            tell = found.append if as_json else session.tell
            session.run(chosen, lambda case: measure(case, model, rounds, facts), describe, directory, seconds, tell)
        finally:
            if as_json:
                print(json.dumps(found, indent=1))


def measure(case, model, rounds, facts):
    """A case's record; without times for those whose answers are wrong, and for those that are not here."""
    print(f"{describe(case)} ...", file=sys.stderr, flush=True)  # a minute or two
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


def save_random(config, scratch):
    """A Model whose random parameters keep sizes as they are on their way."""
    rng = np.random.default_rng(0)
    flat = {}
    for name, shape in params.flatten(config.shapes()).items():
        spread = np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.02
        flat[name] = np.float32(spread) * rng.standard_normal(shape, np.float32)
        if name.endswith(".weight") and len(shape) == 1:  # a layer norm's
            flat[name] += 1
    huggingface.save(scratch / "model", config, params.unflatten(flat))
    return Model(config, scratch / "model", scratch)


# ------------------------------------------------------------------------------------ pictures to features


def encode_image(model, *, B, dtype):
    images = _images(model, B)
    reference = _reference(model, images)
    builders = {
        ON_TORCH: lambda: _ours(model, "torch", dtype, images),
        TRANSFORMERS: lambda: _transformers_vision(model, dtype, images),
    }
    if dtype == "float32":
        builders = {OURS: lambda: _ours(model, "numpy", dtype, images), **builders}
        builders["ONNX Runtime"] = lambda: _onnx_runtime(model, images)
    flops, _ = work(replace(model.config, text=None), "visual", B)
    return Measurement(builders, _alike(reference, dtype), B, "pictures/s", flops)


def _images(model, B):
    return np.random.default_rng(0).standard_normal((B, 3, *[model.config.visual.image_size] * 2), np.float32)


def _reference(model, images):
    """transformers' features in float32; where it is not installed, ours."""
    try:
        return _array(_transformers_vision(model, "float32", images)())
    except ImportError:
        return api.load(model.path, "numpy")[0].encode_image(images)


def _alike(reference, dtype):
    def check(name, features):
        session.compare(_array(features), reference, dtype)

    return check


def _array(features):
    return features if isinstance(features, np.ndarray) else features.detach().float().numpy()


def _ours(model, backend, dtype, images):
    encoder, _ = api.load(model.path, backend, dtype=dtype)
    images = encoder.ops.asarray(images, dtype=dtype)
    return lambda: encoder.encode_image(images)


def _transformers(model, dtype):
    """transformers' CLIPModel with the same weights, and nothing of what it prints while it loads."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    loaded = transformers.CLIPModel.from_pretrained(model.path, dtype=getattr(torch, dtype))
    return loaded.eval().requires_grad_(False)


def _features(output):
    """What get_image_features and get_text_features give: since version 5 wrapped in an output."""
    return getattr(output, "pooler_output", output)


def _transformers_vision(model, dtype, images):
    import torch

    theirs = _transformers(model, dtype)
    images = torch.from_numpy(images).to(getattr(torch, dtype))
    return lambda: _features(theirs.get_image_features(pixel_values=images))


def _onnx_runtime(model, images):
    """transformers' model as torch exports it, with all of ONNX Runtime's optimisations, which are its default."""
    import onnxruntime
    import torch

    path = model.scratch / "vision.onnx"
    if not path.exists():
        theirs = _transformers(model, "float32")

        class Features(torch.nn.Module):
            def forward(self, images):
                return _features(theirs.get_image_features(pixel_values=images))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's age, and of every branch
            names = {"input_names": ["images"], "output_names": ["features"], "dynamic_axes": {"images": {0: "B"}}}
            torch.onnx.export(Features(), (torch.from_numpy(images[:1]),), path, dynamo=False, **names)
    runtime = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda: runtime.run(None, {"images": images})[0]


# --------------------------------------------------------------------------------------- texts to features


def encode_text(model, *, texts, dtype, T=None):
    """Captions as long as they are, or with T all of so many tokens."""
    tokenizer, config = vocabulary.official_tokenizer(), model.config
    tokens = tokenizer.tokenize(captions.make(texts, tokenizer))  # (texts, 77)
    if T is not None:
        words = tokens[(tokens > 0) & (tokens < tokenizer.start_id)]
        tokens = np.resize(words, (texts, T))
        tokens[:, 0], tokens[:, -1] = tokenizer.start_id, tokenizer.end_id
    lengths = tokens.argmax(-1) + 1
    encoder, _ = api.load(model.path, "numpy")
    peers = {f"{TRANSFORMERS}, padded to the longest of {BATCH}": lambda: _transformers_text(model, tokens, lengths)}
    peers |= {f"{TRANSFORMERS}, padded to 77": lambda: _transformers_text(model, tokens, lengths, tokens.shape[1])}
    if T is not None:
        peers = {TRANSFORMERS: lambda: _transformers_text(model, tokens, lengths)}
    try:
        reference = _array(_transformers_text(model, tokens, lengths)())
    except ImportError:
        reference = encoder.encode_text(tokens)
    alone = [replace(config, visual=None, text=replace(config.text, context_length=int(n))) for n in lengths]
    flops = float(sum(work(one, "text", 1)[0] for one in alone))
    builders = {OURS: lambda: lambda: encoder.encode_text(tokens), **peers}
    return Measurement(builders, _alike(reference, dtype), texts, "texts/s", flops)


def _transformers_text(model, tokens, lengths, T=None):
    """Batches of `BATCH`, each padded to T or to its longest text, with the mask that transformers' tokenizer makes."""
    import torch

    theirs = _transformers(model, "float32")
    batches = []
    for start in range(0, len(tokens), BATCH):
        rows = slice(start, start + BATCH)
        ids = torch.from_numpy(tokens[rows, : T or lengths[rows].max()]).long()
        batches.append({"input_ids": ids, "attention_mask": (ids > 0).long()})
    return lambda: torch.cat([_features(theirs.get_text_features(**batch)) for batch in batches])


# ------------------------------------------------------------------------------------------ texts to tokens


def tokenize(model, *, texts, dtype, new=False):
    """The same captions again and again; with `new` others in every call, the same for all providers."""
    ours = vocabulary.official_tokenizer()
    corpora = [captions.make(texts, ours, seed) for seed in range(CORPORA if new else 1)]
    try:
        expected = _official_tokenizer()(corpora[0])
    except ImportError:
        expected = list(map(ours.encode, corpora[0]))

    def check(name, ids):
        equal = sum(a == b for a, b in zip(ids, expected)) / texts
        if equal < (1 if name == OURS else 0.9):  # others do not mend encodings, nor undo escapes
            raise session.WrongAnswer(f"it is wrong: the ids of {1 - equal:.1%} of the texts are not the official ones")

    def builder(build):
        def call():
            encode, corpus = build(), itertools.cycle(corpora)
            return lambda: encode(next(corpus))

        return call

    def ours_anew():
        encode = Tokenizer(ours.merges).encode  # knows no word yet
        return lambda corpus: [encode(text) for text in corpus]

    builders = {OURS: ours_anew, "tokenizers": lambda: _rust(model, ours), OFFICIAL: _official_tokenizer}
    builders = {name: builder(build) for name, build in builders.items()}
    return Measurement(builders, check, texts, "texts/s")


def _official_tokenizer():
    """OpenAI's SimpleTokenizer, by its path: its package cannot be imported without torchvision."""
    package = importlib.util.find_spec("clip")
    if package is None:
        raise ImportError("openai-clip is not installed")
    path = Path(package.submodule_search_locations[0], "simple_tokenizer.py")
    spec = importlib.util.spec_from_file_location("official_tokenizer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    encode = module.SimpleTokenizer().encode
    return lambda corpus: [encode(text) for text in corpus]


def _rust(model, ours):
    """Hugging Face's tokenizer of CLIP's vocabulary, its fastest call, without start and end."""
    import transformers

    directory = model.scratch / "vocabulary"
    directory.mkdir(exist_ok=True)
    huggingface_clip.save_tokenizer(directory, ours, 77)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    theirs = transformers.CLIPTokenizerFast.from_pretrained(directory).backend_tokenizer
    return lambda corpus: [encoding.ids for encoding in theirs.encode_batch_fast(corpus, add_special_tokens=False)]


# ---------------------------------------------------------------------------------------- files to pictures


def preprocess(model, *, files, megapixels, dtype):
    size = model.config.visual.image_size
    paths = [photograph(model.scratch / f"{megapixels}-{i}.jpg", megapixels, i) for i in range(files)]
    ours = api.preprocess_of(model.config.visual)
    try:
        expected = list(map(_array, _official_preprocess(paths, size)()))
    except ImportError:
        expected = ours(paths)

    def check(name, pictures):
        if not np.array_equal(list(map(_array, pictures)), expected):
            raise session.WrongAnswer("it is wrong: the pixels differ")

    builders = {
        OURS: lambda: lambda: ours(paths),
        ONE_CORE: lambda: _on_one_core(lambda: ours(paths)),
        f"{OFFICIAL}, one core": lambda: _on_one_core(_official_preprocess(paths, size)),
    }
    return Measurement(builders, check, files, "pictures/s")


def _on_one_core(call):
    def run():
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        try:
            return call()
        finally:
            os.sched_setaffinity(0, cores)

    os.sched_getaffinity(0)  # only Linux has it: elsewhere this is not measured
    return run


def photograph(path, megapixels, seed):
    """Write a picture of 4:3 as a camera might: large shapes, fine grain. Returns the path."""
    rng, height = np.random.default_rng(seed), round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = height * 4 // 3
    shapes = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).resize((width, height), Image.BICUBIC)
    grain = rng.integers(-8, 9, (height, width, 1), np.int16)
    Image.fromarray((np.asarray(shapes) + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path


def _official_preprocess(paths, size):
    """clip/clip.py, _transform, as torchvision computes it: Resize, CenterCrop, RGB, ToTensor, Normalize."""
    import torch

    mean, std = (torch.tensor(x)[:, None, None] for x in (MEAN, STD))

    def one(path):
        image = Image.open(path)
        short = min(image.size)
        image = image.resize([int(size * side / short) for side in image.size], Image.BICUBIC)
        left, top = (round((side - size) / 2) for side in image.size)
        image = image.crop((left, top, left + size, top + size)).convert("RGB")
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        return x.sub_(mean).div_(std)

    def run():
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # on one core two would wait for each other
        try:
            return [one(path) for path in paths]
        finally:
            torch.set_num_threads(threads)

    return run


# -------------------------------------------------------------------------------- from nothing to an answer


def load(model, *, dtype):
    def check(name, loaded):
        pass  # what it computes, `first_picture` looks at

    builders = {
        OURS: lambda: lambda: api.load(model.path, "numpy"),
        TRANSFORMERS: lambda: lambda: _transformers(model, dtype),
    }
    size = sum(path.stat().st_size for path in model.path.glob("*.safetensors"))
    taken = int(_python(MEMORY, model.path)) if sys.platform == "linux" else None
    return Measurement(builders, check, 1, "models/s", facts={"size": size, "memory": taken})


def first_picture(model, *, dtype):
    picture, images = model.scratch / "picture.npy", _images(model, 1)
    np.save(picture, images)
    reference = _reference(model, images)

    def check(name, answer):
        session.compare(np.array(json.loads(answer.splitlines()[-1])), reference, dtype)

    programs = {OURS: FIRST_PICTURE, TRANSFORMERS: THEIR_FIRST_PICTURE}
    builders = {name: lambda code=code: lambda: _python(code, model.path, picture) for name, code in programs.items()}
    return Measurement(builders, check, 1, "starts/s")


MEMORY = """
import re, sys, miniclip
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
before = peak()
model = miniclip.load(sys.argv[1], backend="numpy")
print(peak() - before)
"""
FIRST_PICTURE = """
import sys, miniclip, numpy
model, _ = miniclip.load(sys.argv[1], backend="numpy")
print(model.encode_image(numpy.load(sys.argv[2])).tolist())
"""
THEIR_FIRST_PICTURE = """
import sys, numpy, torch
from transformers import CLIPModel
model = CLIPModel.from_pretrained(sys.argv[1])
with torch.no_grad():
    features = model.get_image_features(pixel_values=torch.from_numpy(numpy.load(sys.argv[2])))
print(getattr(features, "pooler_output", features).tolist())
"""


def _python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout


CASES = [
    *(Case(f"encode_image {MODEL}", {"B": B}, "float32", encode_image) for B in (32, 1)),
    *(Case(f"encode_image {MODEL}", {"B": B}, "bfloat16", encode_image, ON_TORCH, "avx512_bf16") for B in (32, 1)),
    Case(f"encode_text {MODEL}", {"texts": 128}, "float32", encode_text),
    Case(f"encode_text {MODEL}", {"texts": 128, "T": 77}, "float32", encode_text),
    Case("tokenize", {"texts": 20_000}, "int32", tokenize),
    Case("tokenize", {"texts": 20_000, "new": True}, "int32", tokenize),
    Case("preprocess", {"files": 8, "megapixels": 12}, "float32", preprocess),
    Case(f"load {MODEL}", {}, "float32", load),
    Case(f"first picture {MODEL}", {}, "float32", first_picture),
]
