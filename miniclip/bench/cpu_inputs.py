"""Cases of `bench cpu`: the inputs of a model, texts to tokens and files to pixels.

Peers are OpenAI's own tokenizer and preprocessing, Hugging Face's tokenizer, tiktoken with CLIP's vocabulary, and
hf-processors-rs, which computes transformers' pixels in Rust.
"""

import itertools
import json
import os

import numpy as np
from PIL import Image

from miniclip import families
from miniclip.bench import captions
from miniclip.bench.measurement import OFFICIAL, OURS, Measurement, array, module_of
from miniclip.errors import WrongAnswer
from miniclip.families.clip import huggingface as clip_huggingface
from miniclip.fetch import vocabulary
from miniclip.image import MEAN, STD
from miniclip.tokenizer import END, END_OF_WORD, START, SYMBOL_BYTES, WORD, Tokenizer

ONE_CORE, HF_PROCESSORS = "miniclip, one core", "hf-processors-rs"
MARK = "\x01"  # no caption contains it
CORPORA = 36  # sets of new captions: more than there are calls, so that no set comes twice

# ------------------------------------------------------------------------------------------ texts to tokens


def tokenize(model, *, texts, dtype, new=False):
    """The same captions in every call; with `new`, new captions in every call, the same ones for all providers."""
    ours = vocabulary.official_tokenizer()
    corpora = [captions.make(texts, ours, seed) for seed in range(CORPORA if new else 1)]
    try:
        expected = _official_tokenizer()(corpora[0])
    except ImportError:
        expected = list(map(ours.encode, corpora[0]))

    def check(name, ids):
        equal = sum(a == b for a, b in zip(ids, expected)) / texts
        if equal < (1 if name == OURS else 0.9):  # other tokenizers do not repair encodings or unescape HTML
            raise WrongAnswer(f"it is wrong: the ids of {1 - equal:.1%} of the texts are not the official ones")

    def builder(build):
        def call():
            encode, corpus = build(), itertools.cycle(corpora)
            return lambda: encode(next(corpus))

        return call

    def ours_new():
        return Tokenizer(ours.merges).encode_batch  # with an empty cache of words

    builders = {
        OURS: ours_new,
        "tokenizers": lambda: _rust(model, ours),
        "tiktoken": lambda: _tiktoken(ours),
        OFFICIAL: _official_tokenizer,
    }
    builders = {name: builder(build) for name, build in builders.items()}
    return Measurement(builders, check, texts, "texts/s")


def _official_tokenizer():
    """The encode of OpenAI's SimpleTokenizer."""
    encode = module_of("clip", "simple_tokenizer").SimpleTokenizer().encode
    return lambda corpus: [encode(text) for text in corpus]


def _rust(model, ours):
    """Hugging Face's tokenizer with CLIP's vocabulary: its fastest call, without start and end tokens."""
    import transformers

    directory = model.scratch / "vocabulary"
    directory.mkdir(exist_ok=True)
    clip_huggingface.save_tokenizer(directory, ours, 77)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    theirs = transformers.CLIPTokenizerFast.from_pretrained(directory).backend_tokenizer
    return lambda corpus: [encoding.ids for encoding in theirs.encode_batch_fast(corpus, add_special_tokens=False)]


def _tiktoken(ours):
    """OpenAI's tiktoken, whose symbols are bytes and have no end of a word: a control character after each word is one.

    A byte and this mark are merged first of all, and ids are ranks; so the ids are CLIP's. The words are found here,
    because tiktoken cannot insert marks.
    """
    import tiktoken

    ranks = {}
    for symbol, rank in ours.encoder.items():
        if symbol not in (START, END):
            end = MARK.encode() * symbol.endswith(END_OF_WORD)
            ranks[bytes(SYMBOL_BYTES[c] for c in symbol.removesuffix(END_OF_WORD)) + end] = rank
    encoding = tiktoken.Encoding("clip", pat_str=f"[^{MARK}]+{MARK}", mergeable_ranks=ranks, special_tokens={})

    def marked(text):
        return MARK.join([*WORD.findall(" ".join(text.split()).lower()), ""])

    return lambda corpus: encoding.encode_ordinary_batch([marked(text) for text in corpus])


# ---------------------------------------------------------------------------------------- files to pictures


def preprocess(model, *, files, megapixels, dtype):
    size = model.config.visual.image_size
    paths = [photograph(model.scratch / f"{megapixels}-{i}.jpg", megapixels, i) for i in range(files)]
    ours = families.preprocess_of(model.config)
    try:
        expected = list(map(array, _official_preprocess(paths, size)()))
    except ImportError:
        expected = ours(paths)

    def check(name, pictures):
        if not np.array_equal(list(map(array, pictures)), expected):
            raise WrongAnswer("it is wrong: the pixels differ")

    builders = {
        OURS: lambda: lambda: ours(paths),
        HF_PROCESSORS: lambda: _hf_processors(model, paths),
        ONE_CORE: lambda: _on_one_core(lambda: ours(paths)),
        f"{OFFICIAL}, one core": lambda: _on_one_core(_official_preprocess(paths, size)),
    }
    return Measurement(builders, check, files, "pictures/s")


def _hf_processors(model, paths):
    import hf_processors_rs

    folder = model.scratch / "preprocessor"
    folder.mkdir(exist_ok=True)
    settings = json.dumps(clip_huggingface.preprocessor(model.config.visual))
    (folder / "preprocessor_config.json").write_text(settings)
    processor = hf_processors_rs.AutoImageProcessor.from_pretrained(folder, backend="pil")
    return lambda: processor(paths)


def _on_one_core(call):
    def run():
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        try:
            return call()
        finally:
            os.sched_setaffinity(0, cores)

    os.sched_getaffinity(0)  # only Linux has this; on other systems the case is skipped
    return run


def photograph(path, megapixels, seed):
    """Write a 4:3 picture like a camera's, with large shapes and fine grain; returns the path."""
    rng, third = np.random.default_rng(seed), round((megapixels * 1e6 / 12) ** 0.5)
    width, height = 4 * third, 3 * third  # exactly 4:3, so that all libraries crop the same pixels
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
        torch.set_num_threads(1)  # on one core, two threads would wait for each other
        try:
            return [one(path) for path in paths]
        finally:
            torch.set_num_threads(threads)

    return run
