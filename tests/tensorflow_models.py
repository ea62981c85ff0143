"""TensorFlow's form of transformers' CLIP, made without TensorFlow: names by kinds of modules, files by h5py.

It follows transformers 4 (modeling_tf_clip.py) and Keras (hdf5_format.py).
"""

import h5py
import numpy as np
import torch


def variables(model):
    """{name without the model's: array} of transformers' TensorFlow model with the weights of this one for torch."""
    found = {}
    for path, module in model.named_modules():
        for name, x in module.named_parameters(recurse=False):
            x = x.detach().numpy()
            if name == "weight" and isinstance(module, torch.nn.Linear):
                name, x = "kernel", x.T
            elif name == "weight" and isinstance(module, torch.nn.Conv2d):
                name, x = "kernel", x.transpose(2, 3, 1, 0)
            elif isinstance(module, torch.nn.LayerNorm):
                name = {"weight": "gamma", "bias": "beta"}[name]
            elif isinstance(module, torch.nn.Embedding) and not path.endswith("token_embedding"):
                name = "embeddings"
            parts = ["clip", *path.replace("layers.", "layers_._").split("."), name]
            parts = [part if part[:1] != "_" else f"layers_.{part}" for part in parts if part not in ("", "layers_")]
            found["/".join(parts) + ":0"] = np.atleast_1d(x)
    return found


def write_h5(path, arrays, before="tfclip_model/"):
    """A tf_model.h5 as Keras writes it."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"clip"]
        group = file.create_group("clip")
        group.attrs["weight_names"] = [f"{before}{name}".encode() for name in arrays]
        for name, x in arrays.items():
            group.create_dataset(f"{before}{name}", data=x)


def read_h5(path):
    """({name: array}, {group: its attributes}) of all that is in a file."""
    arrays, attributes = {}, {}

    def see(name, branch):
        attributes[name] = {key: np.asarray(x).tolist() for key, x in branch.attrs.items()}
        if isinstance(branch, h5py.Dataset):
            arrays[name] = branch[()]

    with h5py.File(path) as file:
        see("", file)
        file.visititems(see)
    return arrays, attributes
