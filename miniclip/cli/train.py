"""`miniclip train`: train on your own pictures, fine-tune a model, or train the built-in model again."""

import argparse
import dataclasses
import logging
import os
import sys

from miniclip import api, families
from miniclip.caption import captioner
from miniclip.caption import evaluation as caption_evaluation
from miniclip.cli.arguments import MODEL, natural
from miniclip.errors import InputError
from miniclip.train import data, evaluation, learners, run
from miniclip.train.initialize import CONFIGS
from miniclip.train.loop import Evaluation
from miniclip.train.recipe import LOSSES, OPTIMIZERS, PRECISIONS, Recipe
from miniclip.train.state import state_of
from miniclip.train.validation import Retrieval, ZeroShot

EXAMPLES = """examples:
  miniclip train photos/ --steps 200 --batch 20 --out mine.safetensors              a new small CLIP
  miniclip train photos/ --new ViT-B/32 --out mine.safetensors                      a new CLIP of that size
  miniclip train photos/ --init ViT-B/32 --freeze visual --out tuned.safetensors    fine-tune the text tower
  miniclip train photos/ --init ViT-B/32 --lora 8 --out adapter                     LoRA, in PEFT's format
  miniclip train shapes                                                             the built-in model again
  miniclip train photos/ --caption --init ViT-B/32 --out captions.safetensors       a decoder for miniclip caption
  torchrun --nproc-per-node 8 -m miniclip.train photos/ --init ViT-B/32 --out ...   on eight GPUs
"""
# other defaults with --init, and with --caption
TUNING = {"optimizer": "adamw", "learning_rate": 1e-5, "steps": 1000}
CAPTION = {"steps": 1000}
NOT_WITH_CAPTION = (  # options that a decoder does not have
    *("validation", "classes", "template", "every", "patience", "label_smoothing", "chunk", "loss", "precision"),
    *("grad_checkpointing", "new", "image_size", "freeze", "unlock", "lr_scale", "layer_decay"),
    *("lora", "lora_alpha", "lora_targets", "backend"),
)


def add_arguments(command):
    command.set_defaults(command=train, refuse=command.error, default_of=command.get_default)
    command.epilog, command.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
    command.add_argument(
        "data", metavar="DATA",
        help="a folder of pictures with captions, a table (.csv, .tsv, .jsonl) of paths and captions, tar shards, a "
        'folder saved by datasets, or "shapes": see docs/training-data.md',
    )  # fmt: skip
    command.add_argument(
        "--out", metavar="FILE", help="the model's file, or with --lora a folder (default: trained.safetensors)"
    )
    command.add_argument(
        "--caption", action="store_true",
        help="train a decoder that writes captions for pictures, and leave --init as it is: see docs/caption.md",
    )  # fmt: skip
    command.add_argument("--resume", action="store_true", help="continue a training that was stopped")
    command.add_argument("--force", action="store_true", help="write over FILE once the new one is complete")
    command.add_argument("--backend", choices=learners.LEARNERS, default="torch", help="(default: %(default)s)")
    command.add_argument("--device", metavar="D", help="in torch's notation (default: cuda if there is a GPU)")

    group = command.add_argument_group("data")
    group.add_argument("--batch", "--batch-size", type=natural, metavar="N", help="pairs in a step (default: 64)")
    group.add_argument("--columns", nargs=2, metavar=("PICTURES", "CAPTIONS"), help="names of a table's columns")
    group.add_argument("--no-augment", action="store_true", help="pictures whole, without random crops")
    measured = group.add_mutually_exclusive_group()
    measured.add_argument("--validation", metavar="DATA", help="other pairs, as DATA: their recall is measured")
    measured.add_argument("--classes", metavar="DIR", help="a folder of pictures for each class: accuracy is measured")
    group.add_argument(
        "--template", action="append", metavar="TEXT",
        help='for the classes, such as "a photo of a {}" (default: {}); given several times, the mean of all',
    )  # fmt: skip
    group.add_argument(
        "--every", type=natural, default=100, metavar="N", help="measure every N steps (default: %(default)s)"
    )
    group.add_argument("--patience", type=natural, metavar="N", help="end after N measurements without a better one")

    group = command.add_argument_group("recipe")
    default = {field.name: field.default for field in dataclasses.fields(Recipe)}
    for name, kind, text in [
        ("steps", natural, "training steps"),
        ("warmup", natural, "steps until the learning rate is at its largest"),
        ("learning-rate", float, "the largest one, of AdamW"),
        ("muon-learning-rate", float, "the largest one, of Muon"),
        ("weight-decay", float, "of matrices and embeddings"),
        ("label-smoothing", float, "share of a target that is spread over all pairs"),
        ("chunk", natural, "pairs that go through the towers at once; the loss is that of the batch"),
        ("seed", natural, "decides everything that is random"),
    ]:
        key = name.replace("-", "_")
        tuned = f", with --init {TUNING[key]}" if key in TUNING else ""
        tuned += f", with --caption {CAPTION[key]}" if key in CAPTION else ""
        usual = {"chunk": "the whole batch", "warmup": f"{default['warmup']}, at most a tenth of the steps"}
        shown = f" (default: {usual.get(key, default[key])}{tuned})"
        names = [f"--{name}", *(["--lr"] if name == "learning-rate" else [])]
        group.add_argument(*names, type=kind, metavar="N", help=text + shown)
    group.add_argument("--optimizer", choices=OPTIMIZERS, help="(default: muon, with --init adamw)")
    group.add_argument("--loss", choices=LOSSES, help="CLIP's or SigLIP's (default: softmax)")
    group.add_argument("--precision", choices=PRECISIONS, help="of the towers (default: float32)")
    group.add_argument("--grad-checkpointing", action="store_true", default=None, help="less memory, a third more time")
    group.add_argument("--tensorboard", metavar="DIR", help="write TensorBoard's files, too")

    group = command.add_argument_group("start")
    start = group.add_mutually_exclusive_group()
    start.add_argument("--init", metavar="MODEL", help=f"fine-tune {MODEL}; an adapter is merged first")
    start.add_argument(
        "--new", choices=CONFIGS,
        help="a new model of this configuration, without its weights; small has a vocabulary made of the captions "
        "(default: small)",
    )  # fmt: skip
    group.add_argument("--image-size", type=natural, metavar="N", help="pixels of a side (default: the model's)")

    group = command.add_argument_group("fine-tuning")
    group.add_argument(
        "--freeze", nargs="+", default=[], metavar="PART", help="such as visual, embeddings, text.blocks.0"
    )
    group.add_argument(
        "--unlock", nargs="+", default=[], type=_tower_and_number, metavar="TOWER=N",
        help="freeze a tower except its N upper layers: visual=2",
    )  # fmt: skip
    group.add_argument(
        "--lr-scale", nargs="+", default=[], type=_part_and_share, metavar="PART=X",
        help="a part's share of the learning rate: visual=0.1",
    )  # fmt: skip
    group.add_argument(
        "--layer-decay", type=float, default=1.0, metavar="X",
        help="each layer learns X times as fast as the one above it (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--lora", type=natural, default=0, metavar="RANK", help="train LoRA's matrices instead")
    group.add_argument("--lora-alpha", type=float, metavar="X", help="their scale is X / RANK (default: RANK)")
    group.add_argument(
        "--lora-targets", nargs="+", default=["all-linear"], metavar="PART", help="(default: all-linear)"
    )


def _tower_and_number(text):
    tower, _, number = text.partition("=")
    if tower not in ("visual", "text") or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not visual=N or text=N")
    return tower, int(number)


def _part_and_share(text):
    part, _, share = text.partition("=")
    try:
        return part, float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not PART=X with a number X") from None


def train(options):
    logging.basicConfig(format="miniclip: %(message)s", level=logging.INFO)
    is_built_in = options.data == "shapes" and not options.init
    name = "captions" if options.caption else "shapes" if is_built_in else "trained"
    out = options.out or f"{name}.safetensors"
    if (os.path.isfile(out) or (options.lora and os.path.exists(out))) and not (options.force or options.resume):
        raise InputError(f"{out}: exists already: pass --force to write over it, or another --out")
    names = [field.name for field in dataclasses.fields(Recipe)]
    given = {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
    usual = CAPTION if options.caption else TUNING if options.init else {}
    recipe = Recipe(**{**usual, **given})
    if options.warmup is None:
        recipe = dataclasses.replace(recipe, warmup=min(recipe.warmup, recipe.steps // 10))
    how = {"resume": options.resume, "tensorboard": options.tensorboard}
    if is_built_in:
        how["dtype"] = "float16"  # as the file that comes with miniclip
    is_first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun has started
    try:
        (_train_decoder if options.caption else _train)(options, out, recipe, how)
    except KeyboardInterrupt:
        state = state_of(out)
        kept = f"what it has learned is in {state}: add --resume to continue"
        if is_first:
            print(f"miniclip: stopped; {kept if state.exists() else 'nothing is kept yet'}", file=sys.stderr)
        raise
    if not is_first:
        return
    print(f"written to {out}")
    if is_built_in and options.caption:
        print(caption_evaluation.table(caption_evaluation.evaluate(captioner.load(decoder=out))))
    elif is_built_in:
        print(evaluation.table(evaluation.evaluate(*api.load(out))))


def _train(options, out, recipe, how):
    trainable = run.Trainable(
        tuple(options.freeze), dict(options.unlock), dict(options.lr_scale), options.layer_decay,
        options.lora, options.lora_alpha, tuple(options.lora_targets),
    )  # fmt: skip
    with learners.processes(options.backend) as (world, device):
        start, config = None, CONFIGS[options.new or "small"]
        if options.init:
            start = run.existing(options.init, options.image_size)
            config = start.config
        elif options.image_size:
            visual = dataclasses.replace(config.visual, image_size=options.image_size)
            config = dataclasses.replace(config, visual=visual)
        pairs = _pairs(options, families.preprocess_of(config), recipe)
        start = start or run.new(pairs.captions, recipe, config)
        measure = None
        if options.validation:
            measure = Retrieval(data.read(options.validation, options.columns), start.preprocess)
        if options.classes:
            measure = ZeroShot(options.classes, start.preprocess, options.template or ["{}"])
        if options.template and not options.classes:
            raise InputError("templates are for the labels of classes: pass --classes, too")
        if options.patience is not None and not measure:
            raise InputError("patience needs something to measure: pass --validation or --classes")
        run.train(
            out, start, pairs, recipe, trainable=trainable, device=options.device or device, world=world,
            evaluation=measure and Evaluation(measure, options.every, measure.SCORE, options.patience),
            backend=options.backend, **how,
        )  # fmt: skip


def _train_decoder(options, out, recipe, how):
    from miniclip.caption import training  # it needs torch

    for name in NOT_WITH_CAPTION:
        if getattr(options, name) != options.default_of(name):
            options.refuse(f"--{name.replace('_', '-')} is not for --caption")
    with learners.processes("torch") as (world, device):
        if world > 1:
            raise InputError("--caption trains in one process: start it without torchrun")
        model, preprocess = api.load(options.init or "shapes", "torch", options.device or device)
        training.train(out, model, _pairs(options, preprocess, recipe), recipe, **how)


def _pairs(options, preprocess, recipe):
    source = {"batch": options.batch, "columns": options.columns, "seed": recipe.seed}
    if options.data != "shapes":  # which are drawn, in batches of their own size
        source["augment"] = None if options.no_augment else data.Augment()
        source["batch"] = 64 if options.batch is None else options.batch
    return data.load(options.data, preprocess, **source)
