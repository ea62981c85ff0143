"""OpenCLIP's models of random weights, saved in directories, and their features of given inputs."""

import contextlib
import importlib.util
import json
import subprocess
import sys
from unittest import mock

import numpy as np

from miniclip import checkpoints
from miniclip.checkpoints.convert import convert
from miniclip.families.multilingual import bases
from miniclip.families.siglip import open_clip as siglip

TEXT = {"context_length": 9, "vocab_size": 60, "width": 64, "heads": 2, "layers": 2}
VISION = {"image_size": 24, "patch_size": 8, "width": 64, "layers": 2}
CONFIGS = {
    "gelu": {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT},
    "quickgelu": {"embed_dim": 16, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT},
    # Other widths of heads and MLP, and a long picture; modelled on ViT-H-14 and ViT-bigG-14.
    "huge": {
        "embed_dim": 24,
        "vision_cfg": {**VISION, "image_size": [16, 40], "width": 80, "head_width": 16, "mlp_ratio": 4.9231},
        "text_cfg": {**TEXT, "heads": 8, "mlp_ratio": 3.5},
    },
    "resnet": {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 64,
            "layers": [1, 2, 1, 1],
            "width": 16,
            "head_width": 32,
            "patch_size": None,
        },
        "text_cfg": TEXT,
    },
    # The settings of CLIPA, ViT-M-16-alt, MetaCLIP 2 and CoCa, and others that no published model has.
    "clipa": {
        "embed_dim": 16,
        "vision_cfg": {**VISION, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": {**TEXT, "pool_type": "last", "no_causal_mask": True},
    },
    "average": {
        "embed_dim": 16,
        "vision_cfg": {**VISION, "image_size": [24, 40], "pool_type": "avg", "norm_kwargs": {"eps": 1e-3}},
        "text_cfg": {**TEXT, "pool_type": "first", "no_causal_mask": True, "act_kwargs": {"approximate": "tanh"}},
    },
    "layer scale": {
        "embed_dim": 16,
        "vision_cfg": {**VISION, "ls_init_value": 0.5},
        "text_cfg": {**TEXT, "ls_init_value": 0.5, "pool_type": "eos", "eos_id": 7},
    },
    "coca": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_queries": 5, "output_tokens": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"context_length": 9, "vocab_size": 60, "width": 64, "heads": 2, "layers": 1},
    },
    "coca as wide": {  # its attention pool has one matrix for queries, keys and values
        "embed_dim": 64,
        "custom_text": True,
        "quick_gelu": True,
        "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_queries": 3, "pool_type": "avg"},
        "text_cfg": {**TEXT, "embed_cls": True, "no_causal_mask": True, "pad_id": 5},
    },
    "both ways": {
        "embed_dim": 64,
        "vision_cfg": {**VISION, "pos_embed_type": "sin_cos_2d", "final_ln_after_pool": True},
        "text_cfg": {**TEXT, "no_causal_mask": True, "proj_type": "none"},
    },
    "bias": {
        "embed_dim": 16,
        "custom_text": True,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": {**TEXT, "proj_bias": True, "pool_type": "last"},
    },
    "defaults": {"embed_dim": 16, "vision_cfg": {"width": 64, "layers": 1}, "text_cfg": {"width": 64, "layers": 1}},
}

# Models whose text tower is transformers'. Here its base models are as wide as they are, but have few blocks and ids.
BASE = {"hf_model_name": "xlm-roberta-base", "hf_tokenizer_name": "xlm-roberta-base", "hf_pooler_type": "mean_pooler"}
ROBERTAS = {
    "mlp": {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": BASE},
    "linear": {
        "embed_dim": 24,
        "quick_gelu": True,  # of the image tower alone
        "vision_cfg": {**VISION, "image_size": [16, 40]},
        "text_cfg": {**BASE, "hf_model_name": "roberta-base", "hf_proj_type": "linear", "context_length": 40},
    },
    "no projection": {
        "embed_dim": 768,
        "vision_cfg": VISION,
        "text_cfg": {**BASE, "hf_proj_type": None, "hf_pooler_type": "cls_last_hidden_state_pooler"},
    },
    "resnet": {"embed_dim": 16, "vision_cfg": CONFIGS["resnet"]["vision_cfg"], "text_cfg": BASE},
}
# Models whose image tower is timm's: a small one, which is not in timm, and OpenCLIP's, with a few of their blocks.
SMALL, SMALL_SIZE = "vit_small_patch8_siglip_28", (28, 8, 40, 2, 5, 60, "gelu_tanh")
SIGLIP_TEXT = {**TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True, "norm_kwargs": {"eps": 1e-6}}
SIGLIP = {
    "embed_dim": 40,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {"image_size": 28, "timm_model_name": SMALL, "timm_pool": "map", "timm_proj": "none"},
    "text_cfg": {**SIGLIP_TEXT, "act_kwargs": {"approximate": "tanh"}},
}
SIGLIPS = {
    "siglip": SIGLIP,
    "siglip without projection": {
        **SIGLIP, "text_cfg": {**SIGLIP_TEXT, "width": 40, "heads": 5, "proj_bias": False, "proj_type": "none"}
    },
}  # fmt: skip
BLOCKS, IDS = 2, 1000
SIZES = f"SMALL, SMALL_SIZE, BLOCKS = {SMALL!r}, {SMALL_SIZE!r}, {BLOCKS!r}\n"

# OpenCLIP runs in its own process, where fake modules replace torchvision, which it and timm import only for pictures.
START = """
import json, logging, pathlib, sys
from unittest.mock import MagicMock

for name in ("", ".datasets", ".transforms", ".transforms.functional", ".ops", ".ops.misc"):
    sys.modules["torchvision" + name] = MagicMock()
sys.modules.setdefault("transformers", None)
logging.disable()
"""

# What OpenCLIP fetches from the hub: configurations, and models that begin with other weights.
TRANSFORMERS = f"""
import transformers
from transformers import AutoModel, RobertaModel, XLMRobertaModel

def small(name):
    width, layers, heads, mlp_width = (1024, {BLOCKS}, 16, 4096) if "large" in name else (768, {BLOCKS}, 12, 3072)
    return (transformers.XLMRobertaConfig if "xlm" in name else transformers.RobertaConfig)(
        vocab_size={IDS}, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=mlp_width, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5,
    )

transformers.AutoConfig.from_pretrained = small
AutoModel.from_pretrained = lambda name, **options: AutoModel.from_config(small(name), **options)
"""

# What it publishes, as JSON: {model: model_cfg}, {model: {tag: its entry in the table of weights}}, its version.
PUBLISHED = """
import open_clip
from open_clip.pretrained import _PRETRAINED
configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
print(json.dumps([configs, _PRETRAINED, open_clip.__version__]))
"""

OFFICIAL = """
import numpy, open_clip, torch
from open_clip import timm_model
from open_clip.push_to_hf_hub import save_for_hf

if timm_model.timm:
    created = timm_model.timm.create_model

    def create_model(name, **options):
        if name == SMALL:
            side, P, D, _, heads, M, activation = SMALL_SIZE
            options |= {"img_size": side, "patch_size": P, "embed_dim": D, "num_heads": heads, "mlp_ratio": M / D}
            name, options = "vit_base_patch16_siglip_224", {**options, "act_layer": activation}
        return created(name, depth=BLOCKS, **options)

    timm_model.timm.create_model = create_model

def run(task, directory, config, arrays, names):
    directory = pathlib.Path(directory)
    if task == "save":
        torch.manual_seed(0)
        sizes = json.loads(json.dumps(config))
        custom = open_clip.CoCa if "multimodal_cfg" in sizes else open_clip.CustomTextCLIP
        own = sizes.pop("custom_text", False) or "hf_model_name" in sizes["text_cfg"]
        kind = custom if own else open_clip.CLIP  # as in create_model
        model = kind(**sizes).eval()
        with torch.no_grad():
            for name, x in [*model.named_parameters(), *model.named_buffers()]:
                if x.is_floating_point() and "running_var" not in name and "attn_mask" not in name:
                    x.add_((0.1 if x.ndim < 2 else 0.02) * torch.randn_like(x))
        model.visual.image_mean, model.visual.image_std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        save_for_hf(model, MagicMock(), config, directory)
    else:
        size = {"force_image_size": tuple(config)} if config else {}
        model = open_clip.create_model(f"local-dir:{directory}", require_pretrained=True, **size).eval()
    batch = numpy.load(arrays)
    with torch.no_grad():
        images, texts = map(torch.from_numpy, (batch["images"], batch["tokens"]))
        image, text = model.encode_image(images, normalize=False), model.encode_text(texts, normalize=False)
        numpy.savez(arrays, **batch, image=image, text=text)

for line in sys.stdin:
    run(*json.loads(line))
    print("done", flush=True)
"""


def has_timm():
    """Whether timm is installed, for models that have an image tower of its."""
    return importlib.util.find_spec("timm") is not None


def few_blocks():
    """A context in which miniclip reads timm's and transformers' towers as they are here: of few blocks and ids."""
    timm = {name: (*size[:3], BLOCKS, *size[4:]) for name, size in {**siglip.TOWERS, SMALL: SMALL_SIZE}.items()}
    berts = {name: {**sizes, "layers": BLOCKS, "vocab_size": IDS} for name, sizes in bases.SIZES.items()}
    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.dict(siglip.TOWERS, timm))
    stack.enter_context(mock.patch.dict(bases.SIZES, berts))
    return stack


@contextlib.contextmanager
def running(transformers=False):
    """A function that has OpenCLIP do one task, (task, directory, config, arrays, names)."""
    code = TRANSFORMERS * transformers + START + SIZES + OFFICIAL
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def do(task):
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n", task

        yield do
        process.stdin.close()


def published():
    """({model: its model_cfg}, {model: {tag: where its weights are, and how pictures are prepared}}, the version)."""
    command = [sys.executable, "-c", START + PUBLISHED]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def official(tasks, transformers=False):
    with running(transformers) as do:
        for task in tasks:
            do(task)


def size_of(config):
    size = config["vision_cfg"].get("image_size", 224)
    return size if isinstance(size, list) else [size, size]


def save(base, configs, texts=3):
    """Have OpenCLIP save models, {name: config}, in `base`: {name: (directory, its inputs and features)}."""
    tasks = []
    for name, config in configs.items():
        rng = np.random.default_rng(0)
        text = config["text_cfg"]
        images = rng.standard_normal((2, 3, *size_of(config))).astype(np.float32)
        ids = IDS if "hf_model_name" in text else text.get("vocab_size", 49408)
        tokens = rng.integers(0, ids, (texts, text.get("context_length", 77)))
        np.savez(base / f"{name}.npz", images=images, tokens=tokens)
        tasks.append(["save", str(base / name), config, str(base / f"{name}.npz"), name])
    official(tasks, any("hf_model_name" in config["text_cfg"] for config in configs.values()))
    return {name: (base / name, arrays(base / f"{name}.npz")) for name in configs}


def arrays(path):
    """The arrays in an .npz file."""
    with np.load(path) as found:
        return dict(found)


def check_written(saved, folder, error, transformers=False):
    """OpenCLIP's features of its models, `saved`, are the same from files that we write of our own files of them."""
    tasks = []
    for name, (directory, batch) in saved.items():
        convert(directory, folder / f"{name}.safetensors", "miniclip")
        convert(folder / f"{name}.safetensors", folder / name, "open_clip")
        np.savez(folder / f"{name}.npz", images=batch["images"], tokens=batch["tokens"])
        tasks.append(["load", str(folder / name), None, str(folder / f"{name}.npz"), name])
    official(tasks, transformers)
    for name, (directory, batch) in saved.items():
        theirs = arrays(folder / f"{name}.npz")
        assert error(theirs["image"], batch["image"]) < 1e-5
        assert error(theirs["text"], batch["text"]) < 1e-5
        assert checkpoints.load(folder / name)[0] == checkpoints.load(directory)[0]
