"""Reads and writes PEFT's LoRA adapters: adapter_config.json, and pairs of thin matrices that are added to weights.

    W' = W + scale · B A,    scale = alpha / r, or alpha / √r with `use_rslora`    (peft/tuners/lora/layer.py)

Their names are those of transformers' modules, for which the families have tables. After "base_model.model.":

    a linear layer         MODULE.lora_A.weight (r, in)          MODULE.lora_B.weight (out, r)
    a convolution          MODULE.lora_A.weight (r, C, P, P)     MODULE.lora_B.weight (out, r, 1, 1)
    a table of embeddings  MODULE.lora_embedding_A (r, rows)     MODULE.lora_embedding_B (width, r)

and MODULE.weight, MODULE.base_layer.bias, ... are parameters that replace the model's (`modules_to_save`, `bias`).
"""

import math
from pathlib import Path

import numpy as np
import regex

from miniclip import families, params
from miniclip.errors import InputError
from miniclip.families import batch_norm, names
from miniclip.formats import read, read_json, safetensors
from miniclip.runtime.files import atomic_directory, write_json

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."
PAIR = regex.compile(r"(.+)\.(lora_A\.weight|lora_B\.weight|lora_embedding_A|lora_embedding_B)")
HEAD = "classifier."  # of CLIPForImageClassification, which is loaded without it
MOST = 1 << 24  # a rank or an alpha that is larger is a mistake
MERGE = "merge it with PEFT (merge_and_unload), and save that model"

READ = {"peft_type", "r", "lora_alpha", "use_rslora", "init_lora_weights"}
TYPES = {
    **dict.fromkeys(("rank_pattern", "alpha_pattern", "auto_mapping"), dict),
    **dict.fromkeys(("target_modules", "exclude_modules", "layers_pattern"), (str, list)),
    "modules_to_save": list,
    "layers_to_transform": (int, list),
}
# Settings that change nothing once an adapter is trained; `bias` and the tensors say the same, and PEFT itself ignores
# `fan_in_fan_out` for the layers that our models have.
WITHOUT_EFFECT = {
    *("base_model_name_or_path", "revision", "peft_version", "task_type", "inference_mode", "bias", "fan_in_fan_out"),
    *("lora_dropout", "megatron_core", "qalora_group_size", "loftq_config", "eva_config", "runtime_config"),
    "ensure_weight_tying",
}
# Of `init_lora_weights`. Others change the base's weights before training, so that the pairs belong to another base.
INITIAL = (True, False, "gaussian", "eva", "orthogonal")


def is_adapter(path):
    """Whether the directory has an adapter instead of, or beside, a model."""
    return (Path(path) / CONFIG).is_file()


def base_of(directory):
    """The name or path of the model that an adapter was trained on. Raises InputError if the adapter does not say."""
    path = Path(directory) / CONFIG
    base = read_json(path).get("base_model_name_or_path")
    if not (isinstance(base, str) and base):
        raise InputError(f"{path}: does not say which model it belongs to: load that model, with adapter='{directory}'")
    return base


def merge(flat, config, directory):
    """{our name: array} of a model, and the directory of an adapter -> the same with the adapter added to it.

    Computed in float32 (float64 if the weight is), stored as the weight was. Raises InputError that names the file and
    what is wrong: a setting that miniclip does not have, a tensor too many or too few, another shape, another model.
    """
    directory = Path(directory)
    path = directory / CONFIG
    settings = _settings(path)
    file, pairs, whole = _tensors(directory)
    family = families.of(config).huggingface
    table = families.of(config).names_of(config)
    theirs = names.restore(flat, table)  # views, except for names that transformers does not have
    tower = _tower(config, settings, [*pairs, *whole])
    folded = {conv for conv, _ in batch_norm.pairs(theirs, getattr(family, "BATCH_NORMS", ()))}
    for name in (*whole, *(f"{module}.weight" for module in pairs)):
        if tower + name not in theirs:
            raise InputError(
                f"{file}: changes {name}, which this model does not have: load the model that base_model_name_or_path "
                f"names in {CONFIG}"
            )
        if (tower + name).rpartition(".")[0] in folded:
            raise InputError(f"{file}: changes {name}, whose BatchNorm is a part of it in miniclip: {MERGE}")
    linear = {
        name.removeprefix(tower).removesuffix(".weight"): not _is_table(name, x)
        for name, x in theirs.items()
        if x.ndim == 2 and name.startswith(tower) and name.endswith(".weight")
    }
    _check_targets(path, settings, pairs, linear)
    for name, x in whole.items():
        _check_shape(file, name, x, theirs[tower + name].shape)
        theirs[tower + name] = x.astype(theirs[tower + name].dtype)
    for module, pair in pairs.items():
        name = f"{tower}{module}.weight"
        theirs[name] = _added(file, module, theirs[name], pair, *_rank_and_scale(path, settings, module))
    return flat | names.rename(theirs, table)


def _added(file, module, x, pair, rank, scale):
    """The weight x with the pair of its module added to it."""
    wide, ones = np.result_type(x, np.float32), (1,) * (x.ndim - 2)
    table = _is_table(f"{module}.weight", x)
    kinds = ("lora_embedding_A", "lora_embedding_B") if table else ("lora_A.weight", "lora_B.weight")
    if set(pair) != set(kinds):
        raise InputError(f"{file}: {module} has {' and '.join(pair)}, expected {' and '.join(kinds)}")
    A, B = (pair[kind] for kind in kinds)
    rows, *rest = x.T.shape if table else x.shape
    _check_shape(file, f"{module}.{kinds[0]}", A, (rank, *rest))
    _check_shape(file, f"{module}.{kinds[1]}", B, (rows, rank, *ones))
    update = B.reshape(rows, rank).astype(wide) @ A.reshape(rank, -1).astype(wide)  # (out, in)
    update = update.T if table else update.reshape(x.shape)
    return (x + scale * update).astype(x.dtype)


def _is_table(name, x):
    """Whether a weight of transformers is a table of embeddings, not a linear layer or the convolution of patches."""
    return x.ndim == 2 and "embedding" in name.split(".")[-2]


def _check_shape(file, name, x, shape):
    if x.shape != tuple(shape):
        raise InputError(f"{file}: {name} is {x.shape}, expected {tuple(shape)}")


def _tower(config, settings, given):
    """What transformers' whole model has before these names: nothing, or a tower, which transformers 5 leaves out."""
    prefixes = {"visual": "vision_model.", "text": "text_model."}
    if any(name.startswith((*prefixes.values(), "visual_projection.", "text_projection.")) for name in given):
        return ""
    trained = str((settings.get("auto_mapping") or {}).get("base_model_class"))
    stated = [tower for tower, word in (("visual", "VisionModel"), ("text", "TextModel")) if word in trained]
    possible = stated or [tower for tower in prefixes if getattr(config, tower)]
    return prefixes[possible[0]] if len(possible) == 1 else ""


# ---------------------------------------------------------------------------------------------------- what is read


def _settings(path):
    settings = read_json(path)
    if settings.get("peft_type") != "LORA":
        raise InputError(f"{path}: peft_type is {settings.get('peft_type')!r}, expected 'LORA': {MERGE}")
    for name, value in settings.items():
        if value and name not in READ | TYPES.keys() | WITHOUT_EFFECT:
            raise InputError(f"{path}: {name} is {value!r}, which miniclip does not have: {MERGE}")
        if value is not None and not isinstance(value, TYPES.get(name, object)):
            raise InputError(f"{path}: {name} is {value!r}: not the settings of an adapter")
    initial = settings.get("init_lora_weights", True)
    if initial not in INITIAL:
        raise InputError(f"{path}: init_lora_weights is {initial!r}, which has changed the model's weights: {MERGE}")
    return settings


def _tensors(directory):
    """(file, {module: {kind of the tensor: array}}, {parameter: array that replaces it}), without PEFT's prefix."""
    file = next((directory / name for name in WEIGHTS if (directory / name).exists()), None)
    if file is None:
        raise InputError(f"{directory}: has {CONFIG}, but no weights: expected {' or '.join(WEIGHTS)}")
    tensors, _ = read(file)
    pairs: dict = {}
    whole = {}
    for name, x in tensors.items():
        if not name.startswith(PREFIX) or x.dtype.kind != "f":
            raise InputError(f"{file}: {name} ({x.dtype}) is not part of an adapter: expected floats, and {PREFIX}...")
        name = name.removeprefix(PREFIX)
        if found := PAIR.fullmatch(name):
            pairs.setdefault(found[1], {})[found[2]] = x
        elif not name.startswith(HEAD):
            whole[name.replace(".base_layer.", ".")] = x
    if not pairs:
        raise InputError(f"{file}: has no pairs lora_A and lora_B")
    return file, pairs, whole


def _rank_and_scale(path, settings, module):
    values = []
    for key, pattern in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
        special = settings.get(pattern) or {}
        # the first key that fits the end of the module's name (peft/utils/other.py, get_pattern_key)
        fits = (value for end, value in special.items() if _matches(path, rf"(.*\.)?({end})", module))
        values.append(next(fits, settings.get(key)))
    rank, alpha = values
    if type(rank) is not int or not 1 <= rank <= MOST or type(alpha) not in (int, float) or not abs(alpha) <= MOST:
        raise InputError(f"{path}: {module} has rank {rank!r} and alpha {alpha!r}, expected 1 or more, and a number")
    return rank, alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _check_targets(path, settings, pairs, modules):
    """Raise InputError unless the settings name just the modules that have pairs; `modules`: {name: is it linear}.

    A tower without pairs is not part of the model that PEFT saw, nor are projections, if there are none.
    """
    extra = [module for module in pairs if not _targeted(path, settings, module, modules.get(module, False))]
    if extra:
        raise InputError(f"{path}: target_modules does not name {extra[0]}, which has a pair in the weights")
    seen = {module.partition(".")[0] for module in pairs}
    missing = [
        module
        for module, linear in modules.items()
        if module not in pairs and module.partition(".")[0] in seen and _targeted(path, settings, module, linear)
    ]
    if missing:
        raise InputError(f"{path}: target_modules names {missing[0]}, which has no pair in the weights")


def _targeted(path, settings, module, linear):
    """Whether the settings name a module (peft/tuners/tuners_utils.py, check_target_module_exists)."""
    target, excluded = settings.get("target_modules"), settings.get("exclude_modules") or ()
    if any(_matches(path, rf"(.*\.)?{saved}(\..*)?", module) for saved in settings.get("modules_to_save") or ()):
        return False
    if _named(path, excluded, module):
        return False
    if isinstance(target, str) and target.lower() == "all-linear":
        return linear
    if not target or not _named(path, target, module):
        return False
    numbers, patterns = settings.get("layers_to_transform"), settings.get("layers_pattern") or [r"[^.]*"]
    if isinstance(target, str) or numbers in (None, []):
        return True
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if found := _matches(path, rf"(?:.*?\.)??{pattern}\.(\d+)\..*", module):
            return int(found[1]) in ([numbers] if isinstance(numbers, int) else numbers)
    return False


def _named(path, named, module):
    """Whether a regular expression matches the name of a module, or a list has an end of it."""
    if isinstance(named, str):
        return _matches(path, named, module)
    return any(f".{module}".endswith(f".{end}") for end in named)


def _matches(path, pattern, module):
    try:
        return regex.fullmatch(pattern, module, timeout=0.2)  # anyone may have written the pattern
    except (regex.error, TimeoutError) as error:
        raise InputError(f"{path}: {pattern!r} cannot be used as a regular expression: {error}") from error


# ---------------------------------------------------------------------------------------------------- writing


def is_only_adapter(directory):
    """Whether it is a directory with what `save` writes, and nothing else."""
    path = Path(directory)
    return path.is_dir() and {x.name for x in path.iterdir()} <= {CONFIG, WEIGHTS[0]}


def save(directory, config, adapter, alpha, *, base=None, replace=False):
    """Write a directory that PEFT loads onto transformers' model; `merge` reads it too.

    adapter  {our flat name of a weight: (A, B)}, ndarrays as in `train.lora`, all of one rank r
    alpha    the scale is alpha / r
    base     the name or path of the model that was trained, for users who load the adapter by itself
    replace  whether a directory with an adapter and nothing else is replaced

    Raises InputError for weights that have no name there, for several ranks, and if the directory exists.
    """
    rank, tensors = to_peft(config, adapter)
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": base if base is None else str(base),
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted({PAIR.fullmatch(name)[1].removeprefix(PREFIX) for name in tensors}),
        "inference_mode": True,
    }
    with atomic_directory(directory, replace and is_only_adapter(directory)) as temporary:
        safetensors.write(temporary / WEIGHTS[0], tensors, {"format": "pt"})
        write_json(temporary / CONFIG, settings)


def to_peft(config, adapter):
    """(rank, {PEFT's name: array}) of an adapter as `save` takes it. Raises InputError as `save` does."""
    table, shapes = families.of(config).names_of(config), params.flatten(config.shapes())
    norms = getattr(families.of(config).huggingface, "BATCH_NORMS", ())
    ranks = {A.shape[-2] for A, _ in adapter.values()}
    if len(ranks) != 1 or not (config.visual and config.text):
        raise InputError(f"an adapter of a whole model has pairs of one rank, these have {sorted(ranks) or 'none'}")
    (rank,) = ranks
    tensors = {}
    for ours, pair in adapter.items():
        A, B = (np.asarray(x) for x in pair)
        _, *rest = shapes[ours]
        named = names.restore({ours: A.reshape(-1, *A.shape[-2:])}, table)  # of qkv, three
        if not named or batch_norm.pairs(named, norms):
            raise InputError(f"{ours}: PEFT's files cannot have a pair for it: transformers has no such layer")
        for i, name in enumerate(named):
            a, b = (x.reshape(len(named), -1, x.shape[-1])[i] for x in (A, B))  # (r, in), (out, r)
            module = PREFIX + name.removesuffix(".weight")
            if len(rest) == 1 and "embedding" in name:
                tensors |= {f"{module}.lora_embedding_A": b.T, f"{module}.lora_embedding_B": a.T}
            else:
                ones = (1,) * (len(rest) - 1)
                tensors[f"{module}.lora_A.weight"] = a.reshape(rank, *rest)
                tensors[f"{module}.lora_B.weight"] = b.reshape(-1, rank, *ones)
    return rank, tensors
