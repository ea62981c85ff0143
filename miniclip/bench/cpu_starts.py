"""Cases of `bench cpu`: loading a model, and the first answer of a new process, with libraries still to be imported."""

import json

import numpy as np

from miniclip import api
from miniclip.bench import cpu_peers, session
from miniclip.bench.cpu_features import BACKENDS, pictures, reference_of
from miniclip.bench.measurement import ON_ONNX_RUNTIME, OURS, TRANSFORMERS, Measurement, extra_memory, python
from miniclip.errors import WrongAnswer
from miniclip.weights import DIRECTORY


def load(model, *, dtype):
    def check(name, loaded):
        pass  # `first_picture` checks the answers of a loaded model

    builders = {
        OURS: lambda: lambda: api.load(model.path, "numpy", mmap=True),  # as transformers does
        TRANSFORMERS: lambda: lambda: cpu_peers.transformers_model(model, dtype),
    }
    size = sum(path.stat().st_size for path in model.path.glob("*.safetensors"))
    memory = extra_memory("import miniclip", LOAD, model.path)
    return Measurement(builders, check, 1, "models/s", facts={"size": size, "memory": memory})


def first_picture(model, *, dtype):
    """From the start of Python to the features of a picture. ONNX Runtime's peer reads an export that is ready."""
    picture, images = model.scratch / "picture.npy", pictures(model, 1)
    np.save(picture, images)
    reference = reference_of(model, images)

    def check(name, answer):
        return 1 - session.compare(np.array(json.loads(answer.splitlines()[-1])), reference, dtype)

    def starts(code, *arguments):
        return lambda: python(code, *arguments)

    builders = {
        **{
            name: lambda name=name: starts(FIRST_PICTURE, model.path, picture, BACKENDS[name][0])
            for name in (OURS, ON_ONNX_RUNTIME)
        },
        TRANSFORMERS: lambda: starts(THEIR_FIRST_PICTURE, model.path, picture),
        cpu_peers.ONNX_RUNTIME: lambda: starts(FIRST_PICTURE_OF_EXPORT, cpu_peers.vision_graph(model), picture),
    }
    return Measurement(builders, check, 1, "starts/s")


def classify(model, *, dtype):
    """The command `miniclip classify` with the built-in model; its peer only imports NumPy, the least that it takes."""

    def check(name, answer):
        if name == OURS and json.loads(answer)[0]["labels"][0]["label"] != "a red heart":
            raise WrongAnswer("it is wrong: the example is a red heart")

    picture = DIRECTORY / "example.png"
    builders = {OURS: lambda: lambda: python(CLASSIFY, picture), IMPORT: lambda: lambda: python("import numpy")}
    return Measurement(builders, check, 1, "starts/s")


IMPORT = "import numpy, alone"
CLASSIFY = """
import sys
from miniclip.cli import main
main(["classify", sys.argv[1], "--labels", "a red heart", "a red circle", "a blue heart", "a pink star", "--json"])
"""
LOAD = 'model = miniclip.load(sys.argv[1], backend="numpy", mmap=True)'
FIRST_PICTURE = """
import sys, miniclip, numpy
model, _ = miniclip.load(sys.argv[1], backend=sys.argv[3], mmap=True)
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
FIRST_PICTURE_OF_EXPORT = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(session.run(None, {"pixel_values": numpy.load(sys.argv[2])})[0].tolist())
"""
