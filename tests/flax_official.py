"""transformers' Flax models, run in an environment of their own: `PYTHON flax_official.py < tasks`; see `official`.

transformers 5 has no Flax models, and the last version that has them does not go together with it. The environment:

    python -m venv flax
    flax/bin/pip install transformers==4.57.6 jax==0.10.2 flax==0.12.8 torch==2.13.0
    export MINICLIP_FLAX_PYTHON=flax/bin/python
"""

import json
import os
import subprocess
import sys

import numpy as np

PYTHON = os.environ.get("MINICLIP_FLAX_PYTHON")
LACKING = (
    "set MINICLIP_FLAX_PYTHON to a Python with transformers 4 and Flax: tests/flax_official.py says how to make one"
)


def official(*tasks):
    """Run tasks there; a task is the arguments of `run`."""
    done = subprocess.run([PYTHON, __file__], input=json.dumps(tasks), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def flat(output, prefix=""):
    """{name: array} of an output, of tuples in tuples, or of parameters."""
    if hasattr(output, "items"):
        return {name: x for key, each in output.items() for name, x in flat(each, f"{prefix}.{key}").items()}
    if isinstance(output, (tuple, list)):
        return {name: x for i, each in enumerate(output) for name, x in flat(each, f"{prefix}.{i}").items()}
    return {prefix: np.asarray(output, np.float32)}


def calls(model, inputs, look):
    """Everything that is compared of a model, for these inputs of its call: {name: array}."""
    found = {"plain": model(**inputs), "looked": model(**inputs, **look), "tuple": model(**inputs, return_dict=False)}
    found["looked tuple"] = model(**inputs, return_dict=False, **look)
    positions = () if list(inputs) == ["pixel_values"] else (None,)  # pictures have none
    in_order = [inputs[name] for name in ("input_ids", "pixel_values", "attention_mask") if name in inputs]
    found["by position"] = model(*in_order, *positions, model.params)
    if hasattr(model, "get_text_features"):
        texts = {name: x for name, x in inputs.items() if name != "pixel_values"}
        found |= {"texts": model.get_text_features(**texts), "images": model.get_image_features(inputs["pixel_values"])}
    halved = _map(lambda x: x / 2, model.params)
    found["other parameters"] = model(**inputs, params=halved, train=True)
    return flat(found) | flat(model.params, "params")


def gradients(model, inputs):
    """{name: array}: the gradient of a function of the outputs with respect to all parameters."""
    import jax

    def loss(params):
        output = model(**inputs, params=params, train=True)
        return sum((x * np.linspace(-1, 2, x.shape[-1])).sum() for x in (output[0], output[1]))

    return flat(jax.jit(jax.grad(loss))(model.params))


def _map(function, tree):
    return {key: _map(function, x) for key, x in tree.items()} if hasattr(tree, "items") else function(tree)


def run(name, source, options, arrays, look, answers, saved):
    """Load a class's model, `name`, from a directory, `source`; its outputs go to `answers`, its files to `saved`."""
    import transformers

    transformers.logging.set_verbosity_error()
    model = getattr(transformers, name).from_pretrained(source, **options)
    inputs = dict(np.load(arrays))
    np.savez(answers, **calls(model, inputs, look), **{f"gradient{k}": x for k, x in gradients(model, inputs).items()})
    if saved:
        model.save_pretrained(saved)
        model.save_pretrained(f"{saved} safe", safe_serialization=True)
        model.save_pretrained(f"{saved} pieces", max_shard_size="20KB")


if __name__ == "__main__":
    for task in json.load(sys.stdin):
        run(*task)
