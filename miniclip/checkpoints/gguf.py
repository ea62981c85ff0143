"""Writes GGUF files as clip.cpp reads them (https://github.com/monatis/clip.cpp), by ggml's own package gguf."""

from pathlib import Path

import numpy as np

from miniclip import families, params
from miniclip.checkpoints.infer import check_kept
from miniclip.checkpoints.openai import with_highest_id
from miniclip.errors import InputError
from miniclip.families import names
from miniclip.runtime.files import atomic
from miniclip.runtime.installation import install

# {dtype of the matrices: clip.cpp's number of it (get_ftype)}. llama.cpp's number of q8_0 is 7.
DTYPES = {"float32": 0, "float16": 1, "q8_0": 8}
BLOCK = 32  # numbers of a row that share a scale in q8_0


def save(path, config, tree, tokenizer=None, dtype=None):
    """Write a file with weights, settings and vocabulary for clip.cpp's clip_model_load, whole or not at all.

    dtype  of the matrices, one of `DTYPES`: q8_0 is 8 bits and a float16 scale for each 32 numbers of a row; None:
           float16 if all of them are, else float32. As in clip.cpp's own converter, vectors are always float32, and
           the patch embedding float16: ggml's convolution has no other.

    Raises InputError if clip.cpp cannot express the model, if there is no vocabulary, or without the package gguf.
    """
    library = families.of(config).clip_cpp
    if library is None:
        raise InputError(f"clip.cpp cannot express {config.family} models: convert to miniclip or hf")
    config = with_highest_id(config)
    check_kept(config, library.as_read(config), "clip.cpp")
    if config.text and tokenizer is None:
        raise InputError(
            "clip.cpp reads the vocabulary from the file, and the official one is not on this machine: run miniclip "
            "download vocabulary"
        )
    try:
        import gguf
    except ImportError as error:
        raise InputError(f"to write a GGUF file, {error.name} is needed: {install('gguf')}") from error
    flat = params.flatten(tree)
    if dtype is None:
        dtype = "float16" if {x.dtype for x in flat.values() if x.ndim == 2} == {np.dtype("float16")} else "float32"
    tensors = {name: _stored(name, x, dtype, gguf) for name, x in names.restore(flat, library.NAMES).items()}
    tokens = [tokenizer.decoder[id] for id in range(len(tokenizer))] if config.text else None
    towers = " and ".join(name for name, tower in (("image", config.visual), ("text", config.text)) if tower)
    described = {
        "general.file_type": DTYPES[dtype],
        "general.name": Path(path).stem,
        "general.description": f"CLIP, {towers}, converted by miniclip",
        **({"general.quantization_version": gguf.GGML_QUANT_VERSION} if dtype == "q8_0" else {}),
    }
    with atomic(path) as temporary:
        writer = gguf.GGUFWriter(temporary, "clip")
        try:
            for key, value in (described | library.settings(config, tokens)).items():
                getattr(writer, ADD[type(value)])(key, value)
            for name, (x, kind) in tensors.items():
                writer.add_tensor(name, x, raw_dtype=kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


# The package's functions that write values of these types.
ADD = {bool: "add_bool", int: "add_uint32", float: "add_float32", str: "add_string", list: "add_array"}


def _stored(name, x, dtype, gguf):
    """(the array that is written, ggml's type of it if that is not the array's)."""
    if x.ndim == 2 and dtype == "q8_0":
        if x.shape[1] % BLOCK:
            raise InputError(f"q8_0 has blocks of {BLOCK} numbers, and rows of {name} have {x.shape[1]}: use float16")
        kind = gguf.GGMLQuantizationType.Q8_0
        return gguf.quants.quantize(np.asarray(x, np.float32), kind), kind
    half = x.ndim == 4 or (x.ndim == 2 and dtype == "float16")
    return np.asarray(x, np.float16 if half else np.float32, order="C"), None
