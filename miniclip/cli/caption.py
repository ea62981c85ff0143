"""`miniclip caption`: write what is in a picture."""

import sys

from miniclip import encode, hints
from miniclip.caption import captioner
from miniclip.cli.arguments import PICTURES, add_json, add_model, load, positive, print_json
from miniclip.cli.progress import Broken, counted, progress, say
from miniclip.runtime import listing

BATCH = 8  # pictures between two lines of output


def add_arguments(command):
    command.set_defaults(command=caption, refuse=command.error)
    command.add_argument("pictures", nargs="+", metavar="PICTURE", help=PICTURES)
    command.add_argument(
        "--beams", type=positive, default=5, metavar="N",
        help="unfinished captions that the search keeps; 1 takes the most probable word each time (default: 5)",
    )  # fmt: skip
    command.add_argument("--top", type=positive, default=1, metavar="N", help="show the N best captions (default: 1)")
    command.add_argument(
        "--length-penalty", type=float, default=1.0, metavar="X",
        help="captions are ranked by log probability / tokens ** X: a larger X prefers longer ones (default: 1)",
    )  # fmt: skip
    command.add_argument(
        "--decoder", metavar="FILE",
        help="of miniclip train --caption, or ClipCap's (default: the one that comes with the built-in model)",
    )  # fmt: skip
    command.add_argument("--vocabulary", metavar="DIR", help="with GPT-2's vocab.json, for ClipCap's files")
    command.add_argument(
        "--normalize", action="store_true", default=None,
        help="for ClipCap's files: the decoder was trained with --normalize_prefix",
    )  # fmt: skip
    add_model(command)
    add_json(command)


def caption(options):
    if options.top > options.beams:
        options.refuse(f"--top {options.top}: the search keeps {options.beams} captions: pass --beams {options.top}")
    pictures = counted(listing.pictures(options.pictures), options.pictures)
    how = {"vocabulary": options.vocabulary, "normalize": options.normalize}
    write = captioner.attach(*load(options), options.model, options.decoder, **how)
    for hint in hints.turned(pictures, options.exif):
        say(hint)
    broken, results = Broken(), []
    bar = progress(pictures, shown=options.json or not sys.stdout.isatty())
    for names, features in encode.pictures(write.model, write.preprocess, bar, broken=broken, batch=BATCH):
        found = write.of_features(features, options.beams, length_penalty=options.length_penalty)
        for name, captions in zip(names, found):
            best = [{"caption": text, "log_probability": score} for text, score in captions[: options.top]]
            if options.json:
                results.append({"image": name, "captions": best})
            else:
                _show(name, best)
    if options.json:
        print_json(results)
    return 1 if broken.count else 0


def _show(name, best):
    width = max((len(entry["caption"]) for entry in best), default=0)
    print(name)
    for entry in best:
        print(f"  {entry['caption']:<{width}}  log probability {entry['log_probability']:.2f}")
