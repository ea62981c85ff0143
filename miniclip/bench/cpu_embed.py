"""A case of `bench cpu`: `miniclip embed`, files to an index, beside the model alone and a loop with transformers.

The model alone encodes batches that are ready: what `embed` adds to its time is reading, preparing and writing.
"""

import itertools
import shutil

import numpy as np
from PIL import Image

from miniclip import api, embed, encode
from miniclip.bench import session
from miniclip.bench.cpu_inputs import photograph
from miniclip.bench.cpu_peers import transformers_features, transformers_model
from miniclip.bench.measurement import OURS, TRANSFORMERS, Measurement, Model, array
from miniclip.bench.work import work
from miniclip.checkpoints import huggingface
from miniclip.errors import WrongAnswer
from miniclip.ops.numpy_ops import l2_normalize

ALONE = f"{OURS}, the model alone"


def embed_pictures(model, *, files, megapixels, dtype):
    """Small pictures to an index; the peer is a loop as users write it."""
    paths = [str(photograph(model.scratch / f"{megapixels}-{i}.jpg", megapixels, i)) for i in range(files)]
    ours, preprocess = api.load(model.path, "numpy", mmap=True)
    reference = l2_normalize(ours.encode_image(preprocess(paths)))

    def check(name, answer):
        names, features = answer
        if names != paths:
            raise WrongAnswer("it is wrong: rows are missing, or in another order")
        session.compare(l2_normalize(array(features)), reference, dtype)

    builders = {
        OURS: lambda: lambda: _to_index(ours, preprocess, paths, model.scratch / "index"),
        ALONE: lambda: _alone(ours, preprocess, paths),
        TRANSFORMERS: lambda: _loop(model, paths),
    }
    flops, _ = work(model.config, "visual", files)
    return Measurement(builders, check, files, "pictures/s", flops)


def embed_with_built_in(model, *, files, megapixels, dtype):
    """The same with the built-in model: it is so small that reading and preparing pictures takes most of the time."""
    built_in, _ = api.load("shapes", "numpy")
    path = model.scratch / "built-in-pictures"
    if not path.exists():
        huggingface.save(path, built_in.config, built_in.params)
    built_in = Model(built_in.config, path, model.scratch)
    return embed_pictures(built_in, files=files, megapixels=megapixels, dtype=dtype)


def _to_index(model, preprocess, paths, folder):
    """The rows of a new index."""
    shutil.rmtree(folder, ignore_errors=True)
    embed.pictures(folder, model, preprocess, paths, name="the model")
    _, names, features = embed.read(folder)
    return names, features.astype(np.float32)


def _alone(model, preprocess, paths):
    batches = [preprocess(paths[i : i + encode.PICTURES]) for i in range(0, len(paths), encode.PICTURES)]
    return lambda: (paths, np.concatenate([model.encode_image(images) for images in batches]))


def _loop(model, paths):
    import torch
    import transformers

    theirs = transformers_model(model, "float32")
    processor = transformers.AutoImageProcessor.from_pretrained(model.path)

    def run():
        features, left = [], iter(paths)
        while batch := [*itertools.islice(left, encode.PICTURES)]:
            inputs = processor(images=[Image.open(path) for path in batch], return_tensors="pt")
            features.append(transformers_features(theirs.get_image_features(**inputs)))
        return paths, torch.cat(features)

    return run
