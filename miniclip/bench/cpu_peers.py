"""The peers of `bench cpu` that compute features: transformers, the same compiled by torch, and transformers' own
export in ONNX Runtime and OpenVINO.

Each has its defaults, except that OpenVINO's precision is set: on some processors it would choose bfloat16. Exports
are made once in a run, for all cases.
"""

import logging
import warnings

import numpy as np

from miniclip.bench.measurement import TRANSFORMERS, array

COMPILED, ONNX_RUNTIME, OPENVINO = f"{TRANSFORMERS}, compiled", "ONNX Runtime", "OpenVINO"
BATCH = 32  # captions that a peer pads to the longest of them
PRECISION = {"float32": "f32", "bfloat16": "bf16"}  # OpenVINO's names


def of_pictures(model, dtype, images):
    """{peer: its builder} for the features of pictures (B, 3, height, width)."""
    plain = {
        TRANSFORMERS: lambda: transformers_vision(model, dtype, images),
        COMPILED: lambda: _compiled_vision(model, dtype, images),
    }
    openvino = {OPENVINO: lambda: _call(_openvino(vision_graph(model), dtype), [images])}
    onnx_runtime = {ONNX_RUNTIME: lambda: _call(_onnx_runtime(vision_graph(model, dtype)), [images])}
    return {"float32": plain | onnx_runtime | openvino, "bfloat16": plain | openvino, "int8": onnx_runtime}[dtype]


def of_texts(model, tokens):
    """{peer: its builder} for the features of texts (n, 77) in float32: batches of `BATCH`, padded to their longest."""

    def graph(load):
        inputs = [(ids.astype(np.int64), (ids > 0).astype(np.int64)) for ids in padded(tokens)]
        run = load(text_graph(model))
        return lambda: np.concatenate([run(batch) for batch in inputs])

    return {
        ONNX_RUNTIME: lambda: graph(_onnx_runtime),
        OPENVINO: lambda: graph(lambda path: _openvino(path, "float32")),
    }


def padded(tokens, T=None):
    """Batches of `BATCH` rows of tokens (n, 77): the first T columns, or as many as the longest of the batch needs."""
    lengths = tokens.argmax(-1) + 1
    slices = [slice(start, start + BATCH) for start in range(0, len(tokens), BATCH)]
    return [tokens[rows, : T or lengths[rows].max()] for rows in slices]


def _call(run, inputs):
    return lambda: run(inputs)


# ------------------------------------------------------------------------------------------- transformers


def transformers_model(model, dtype):
    """transformers' model with the same weights; its messages and progress bars are turned off."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    loaded = transformers.AutoModel.from_pretrained(model.path, dtype=getattr(torch, dtype))
    return loaded.eval().requires_grad_(False)


def transformers_features(output):
    """The features in the output of get_image_features and get_text_features; version 5 wraps them in an object."""
    return getattr(output, "pooler_output", output)


def transformers_vision(model, dtype, images):
    import torch

    theirs = transformers_model(model, dtype)
    images = torch.from_numpy(images).to(getattr(torch, dtype))
    return lambda: transformers_features(theirs.get_image_features(pixel_values=images))


def _compiled_vision(model, dtype, images):
    """The same through torch.compile, which needs a C++ compiler. It compiles at the first call, for this batch."""
    import torch

    torch._dynamo.reset()  # else it counts the models of other cases, and stops compiling after eight
    theirs = transformers_model(model, dtype)
    images = torch.from_numpy(images).to(getattr(torch, dtype))
    run = torch.compile(theirs.get_image_features)
    return lambda: transformers_features(run(pixel_values=images))


def transformers_text(model, tokens, T=None):
    """A call that encodes batches of `BATCH`, padded to T or the longest text, with transformers' attention masks."""
    import torch

    theirs, batches = transformers_model(model, "float32"), []
    for ids in padded(tokens, T):
        ids = torch.from_numpy(ids).long()
        batches.append({"input_ids": ids, "attention_mask": (ids > 0).long()})
    return lambda: torch.cat([transformers_features(theirs.get_text_features(**batch)) for batch in batches])


# --------------------------------------------------------------------------- transformers' export elsewhere


def vision_graph(model, dtype="float32"):
    """The path of the image tower in ONNX; int8: with its products quantized by ONNX Runtime."""
    path = model.scratch / "vision.onnx"
    if not path.exists():
        size = model.config.visual.image_size
        pixels = np.zeros((2, 3, *([size] * 2 if isinstance(size, int) else size)), np.float32)
        _export(model, "get_image_features", {"pixel_values": pixels}, {0: "B"}, path)
    return path if dtype == "float32" else _quantized(path)


def text_graph(model):
    """The path of the text tower in ONNX, for any number of texts and tokens."""
    path = model.scratch / "text.onnx"
    if not path.exists():
        ids = np.full((2, 9), model.config.text.vocab_size - 1, np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        _export(model, "get_text_features", inputs, {0: "B", 1: "T"}, path)
    return path


def _export(model, method, inputs, axes, path):
    import torch

    class Features(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = transformers_model(model, "float32")  # a part of this: else weights are not named as such

        def forward(self, *values):
            return transformers_features(getattr(self.model, method)(**dict(zip(inputs, values, strict=True))))

    names = {"input_names": list(inputs), "output_names": ["features"], "dynamic_axes": dict.fromkeys(inputs, axes)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that the exporter is old, and of every branch
        torch.onnx.export(Features(), tuple(map(torch.from_numpy, inputs.values())), path, dynamo=False, **names)


def _quantized(path):
    """The path of the graph with weights in int8 and activations rounded as they come, as ONNX Runtime advises."""
    quantized = path.with_name(f"{path.stem}-int8.onnx")
    if not quantized.exists():
        from onnxruntime.quantization import quantize_dynamic

        logging.getLogger().addFilter(_no_advice)
        quantize_dynamic(path, quantized)
        logging.getLogger().removeFilter(_no_advice)
    return quantized


def _no_advice(record):
    return "pre-processing before quantization" not in record.getMessage()


def _onnx_runtime(path):
    """A function: [inputs of the graph] -> features, with all optimisations of ONNX Runtime, which are its default."""
    import onnxruntime

    runtime = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [x.name for x in runtime.get_inputs()]
    return lambda inputs: runtime.run(None, dict(zip(names, inputs, strict=True)))[0]


def _openvino(path, dtype):
    from miniclip.ops.openvino_ops import core

    compiled = core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": PRECISION[dtype]})
    return lambda inputs: array(compiled(list(inputs))[0])
