"""Writes a model as ONNX files, in the layout of folders that Optimum and transformers.js read.

`graphs` records the towers by calling them with the operations of `ops.onnx_ops`; here they become files, with the
configuration, the settings of pictures and the vocabulary that those libraries read beside them.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from miniclip import checkpoints, families
from miniclip.checkpoints import convert
from miniclip.errors import InputError
from miniclip.formats import ENDINGS
from miniclip.runtime.files import atomic_directory, write_json
from miniclip.runtime.installation import install
from miniclip.tokenizer import Tokenizer

# {dtype: (the end of its files' names, transformers.js's name of it)}
DTYPES = {
    "float32": ("", "fp32"),
    "float16": ("_fp16", "fp16"),
    "bfloat16": ("_bf16", None),
    "int8": ("_quantized", "q8"),
}
LIMIT = 2_000_000_000  # bytes of weights in one file, a little less than ONNX allows; more are in a file beside it
PAGE = 1 << 12  # bytes; weights beside a model begin at multiples of it, so that readers can map them


def export(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    *,
    dtype: str = "float32",
    image_size: int | tuple[int, int] | None = None,
    activation: str | None = None,
    adapter: str | os.PathLike | None = None,
    official: Callable[[], Tokenizer | None] = lambda: None,
) -> list[str]:
    """Read a model and write it to a new directory, completely or not at all; returns what is missing there, and why.

    dtype  "float32", "float16" or "bfloat16", of weights and of what is computed; "int8": of weights and of products.
           Inputs, outputs and logits are float32. The other arguments are as in `checkpoints.convert.convert`

    The files are onnx/vision_model.onnx, onnx/text_model.onnx and onnx/model.onnx, see `graphs`; of one tower alone,
    its own. Raises InputError if the source cannot be read, if `destination` exists, or without the package onnx.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}")
    try:
        from miniclip.export import graphs
    except ImportError as error:
        raise InputError(f"to export a model, {error.name} is needed: {install('onnx')}") from error
    if Path(destination).suffix in (".onnx", *ENDINGS):
        raise InputError(f"{destination}: is a file's name, and the files are in a directory: give a directory's")
    if Path(destination).exists():
        raise InputError(f"{destination}: exists already: move it away, or write to another path")
    how = {"image_size": image_size, "activation": activation, "adapter": adapter}
    config, tree, tokenizer = checkpoints.load(source, dtype="float32", mmap=True, **how)
    families.of(config).huggingface  # noqa: B018  raises InputError if the libraries that read ONNX do not have it
    if config.visual and config.visual.image_size is None:
        raise InputError(
            f"{source}: reads pictures of any shape, and an ONNX file cannot interpolate position embeddings for each: "
            f"export a SigLIP 2 with a fixed resolution, or load this one with backend='onnxruntime' or 'openvino'"
        )
    ending, known_as = DTYPES[dtype]
    with atomic_directory(destination) as folder:
        (folder / "onnx").mkdir()
        outside = []  # the files whose weights are beside them
        for name, (record, towers) in graphs.FILES.items():
            path = folder / "onnx" / f"{name}{ending}.onnx"
            if all(getattr(config, tower) for tower in towers) and write_graph(path, *record(config, tree, dtype)):
                outside.append(path.name)
        return _write_others(folder, config, tokenizer, official, known_as, outside)


def write_graph(path: Path, graph: Any, outputs: dict[str, Any]) -> bool:
    """Write a graph to `path`; returns whether its weights are in a file beside it, `path` + "_data".

    They are if they have more than LIMIT bytes. Then each is written from where it is, without a copy of all.
    """
    sizes: list[int] = []
    graph.model(outputs, lambda name, x: sizes.append(x.nbytes) or {})
    if sum(sizes) <= LIMIT:
        path.write_bytes(graph.model(outputs).SerializeToString())
        return False
    with open(f"{path}_data", "wb") as file:

        def place(name, x):
            offset = file.seek(-(-file.seek(0, os.SEEK_END) // PAGE) * PAGE)
            file.write(x.reshape(-1).view(np.uint8))
            return {"location": Path(file.name).name, "offset": offset, "length": x.nbytes}

        path.write_bytes(graph.model(outputs, place).SerializeToString())
    return True


def _write_others(folder, config, tokenizer, official, known_as, outside):
    """Write the files for the other libraries; returns what is missing, and why."""
    family, missing = families.of(config).huggingface, []
    settings = {"dtype": known_as} if known_as else {}
    if outside:
        settings["use_external_data_format"] = dict.fromkeys(outside, 1)
    write_json(folder / "config.json", {**family.described(config), "transformers.js_config": settings})
    if config.visual:
        try:
            write_json(folder / "preprocessor_config.json", family.preprocessor(config.visual))
        except InputError as error:
            missing.append(f"preprocessor_config.json is not written: {error}")
    if config.text:
        tokenizer, lacking = convert.vocabulary(config, tokenizer, official)
        if tokenizer:
            family.save_tokenizer(folder, tokenizer, config.text.context_length)
            try:
                write_json(folder / "tokenizer.json", family.tokenizer_json(tokenizer))
            except InputError as error:
                missing.append(f"tokenizer.json is not written: {error}")
        else:
            missing.append(f"the vocabulary is not written: {lacking}")
    return missing
