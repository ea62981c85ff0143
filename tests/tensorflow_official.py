"""transformers' TensorFlow models, run in an environment of their own: `PYTHON tensorflow_official.py < tasks`.

transformers 5 has no models for TensorFlow, and the last version that has them does not go together with it. The
environment:

    python -m venv tf
    tf/bin/pip install transformers==4.57.6 tensorflow-cpu==2.21.0 tf-keras==2.21.0 torch==2.13.0
    export MINICLIP_TENSORFLOW_PYTHON=tf/bin/python
"""

import json
import os
import subprocess
import sys

import numpy as np
from flax_official import flat

PYTHON = os.environ.get("MINICLIP_TENSORFLOW_PYTHON")
LACKING = (
    "set MINICLIP_TENSORFLOW_PYTHON to a Python with transformers 4 and tf-keras: tests/tensorflow_official.py says "
    "how to make one"
)


def official(*tasks):
    """Run tasks there; a task is the arguments of `run`."""
    done = subprocess.run([PYTHON, __file__], input=json.dumps(tasks), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def calls(model, inputs, look):
    """Everything that is compared of a model, for these inputs of its call: {name: array}."""
    import tensorflow as tf

    inputs = {name: tf.constant(x) for name, x in inputs.items()}  # of arrays, their features take no input_ids
    found = {"plain": model(**inputs), "looked": model(**inputs, **look), "mapping": model(dict(inputs))}
    found["tuple"] = model(**inputs, return_dict=False, training=True, **look)
    if hasattr(model, "get_text_features"):
        texts = {name: x for name, x in inputs.items() if name != "pixel_values"}
        found |= {"texts": model.get_text_features(**texts), "images": model.get_image_features(inputs["pixel_values"])}
        found["loss"] = model(**inputs, return_loss=True)
        found["loss tuple"] = model(**inputs, return_loss=True, return_dict=False)[0]
    return flat(found) | {f"weight {i}": x for i, x in enumerate(model.get_weights())}


def gradients(model, inputs):
    """{name: array}: the gradient of a function of the outputs with respect to all variables."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        output = model(**inputs, training=True)
        loss = sum(tf.reduce_sum(x * np.linspace(-1, 2, x.shape[-1], dtype=np.float32)) for x in (output[0], output[1]))
    found = tape.gradient(loss, model.trainable_variables)
    return {x.name: tf.convert_to_tensor(g).numpy() for x, g in zip(model.trainable_variables, found)}


def run(name, source, options, arrays, look, answers, saved):
    """Load a class's model, `name`, from a directory, `source`; its outputs go to `answers`, its files to `saved`.

    options  of `from_pretrained`: without `from_pt`, 4.57 cannot read PyTorch's model.safetensors
    """
    import tf_keras
    import transformers

    transformers.logging.set_verbosity_error()
    tf_keras.backend.clear_session()  # else the second model of a class has another name
    model = getattr(transformers, name).from_pretrained(source, **options)
    inputs = dict(np.load(arrays))
    np.savez(answers, **calls(model, inputs, look), **{f"gradient {k}": x for k, x in gradients(model, inputs).items()})
    if saved:
        model.save_pretrained(saved)
        model.save_pretrained(f"{saved} safe", safe_serialization=True)
        model.save_pretrained(f"{saved} pieces", max_shard_size="20KB")


if __name__ == "__main__":
    for task in json.load(sys.stdin):
        run(*task)
