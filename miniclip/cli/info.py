"""`miniclip info`: show a model's configuration and parameters."""

import json
import math

from miniclip import checkpoints, params, weights
from miniclip.cli.arguments import MODEL, add_activation, add_json
from miniclip.families.clip.presets import PRESETS
from miniclip.fetch import hub


def add_arguments(command):
    command.set_defaults(command=info)
    command.add_argument("model", metavar="MODEL", help=MODEL)
    add_activation(command)
    add_json(command)


def _config(name, activation):
    """The configuration of a model. OpenAI's are known without their files, which may not be on this machine."""
    entry = weights.manifest()["models"].get(name, {})
    if activation is None and "configuration" in entry:
        return PRESETS[entry["configuration"]]
    path, adapter = hub.find_adapted(name)
    return checkpoints.load(path, activation=activation, adapter=adapter)[0]


def info(options):
    config = _config(options.model, options.activation)
    shapes = params.flatten(config.shapes())
    counts = {
        tower: sum(math.prod(shape) for shape in params.flatten(branch).values())
        for tower, branch in config.shapes().items()
    }
    if options.json:
        print(json.dumps({"config": config.to_dict(), "parameters": counts, "shapes": shapes}, indent=2))
        return
    for name, part in config.to_dict().items():
        print(f"{name}: " + (", ".join(f"{k} {v}" for k, v in part.items()) if isinstance(part, dict) else f"{part}"))
    counts["all"] = sum(counts.values())
    print("parameters: " + ", ".join(f"{tower} {n:,}" for tower, n in counts.items()))
    width = max(map(len, shapes))
    for name, shape in shapes.items():
        print(f"  {name:<{width}}  {shape}")
