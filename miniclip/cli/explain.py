"""`miniclip explain`: which patches of a picture and which words of a text make the two fit."""

import math

from miniclip import encode, hints
from miniclip.cli.arguments import (
    add_json,
    add_model,
    check_texts,
    is_built_in,
    load,
    natural,
    prefer_numpy,
    print_json,
)
from miniclip.cli.progress import say
from miniclip.explain import attention_maps, relevance, visible, words
from miniclip.runtime import pictures

BAR = 30  # characters of a full bar
SHADES = " ░▒▓█"  # from a patch without relevance to the most relevant one


def add_arguments(command):
    command.set_defaults(command=explain, list_of_rest="texts")
    command.add_argument("picture", metavar="PICTURE", help="a picture file")
    command.add_argument("texts", nargs="+", metavar="TEXT", help="a text, or several to compare")
    command.add_argument("-o", "--out", metavar="FILE", help="draw it (.png, .svg, .pdf); an older figure is replaced")
    command.add_argument("--heads", metavar="FILE", help="draw where each head of each block looks")
    command.add_argument(
        "--layers", type=natural, default=1, metavar="N", help="count the last N blocks of a transformer (default: 1)"
    )
    add_model(command)
    add_json(command)


def explain(options):
    paths = [path for path in (options.out, options.heads) if path]
    if paths:
        from miniclip.viz import relevance as draw
        from miniclip.viz import saving

        saving.check(*paths)
    prefer_numpy(options)
    model, preprocess = load(options)
    check_texts(model, options.model)
    if is_built_in(options):
        for hint in hints.unknown_words(options.texts):
            say(hint)
    for hint in hints.turned([options.picture], options.exif):
        say(hint)
    picture = pictures.open_picture(options.picture, exif=options.exif)
    image, tokens = preprocess(picture), model.tokenize(options.texts)  # (C, height, width), (N, T)
    found = relevance(model, image, tokens, layers=options.layers)
    encode.check_numbers(found.score, f"{options.model}: its answers")
    cosines = (found.score / math.exp(model.logit_scale)).tolist()
    captions = [words(model, text, row) for text, row in zip(options.texts, found.tokens)]
    if options.json:
        results = [
            {"text": text, "cosine": cosine, "tokens": [{"token": token, "relevance": x} for token, x in caption],
             "patches": patches}
            for text, cosine, caption, patches in zip(options.texts, cosines, captions, found.patches.tolist())
        ]  # fmt: skip
        print_json({"image": options.picture, "texts": results})
    else:
        print(options.picture)
        for shown in zip(options.texts, cosines, captions, found.patches):
            _show(*shown)
    height, width = image.shape[1:]
    if picture.width * height != picture.height * width:
        say(
            f"patches are of what the model sees of this picture, {width} x {height} pixels: it was resized and cropped"
        )
    seen = visible(preprocess, image)  # (height, width, 3)
    if options.out:
        titles = [f"cosine {cosine:.2f}" for cosine in cosines]
        saving.save(draw.explanations(seen, [*zip(titles, captions, found.patches)]), options.out)
    if options.heads:
        saving.save(draw.heads(seen, attention_maps(model, image)), options.heads)
    for path in paths:
        say(f"{path} is written")


def _show(text, cosine, caption, patches):
    print(f"  {text!r}  cosine {cosine:.2f}")
    width = max((len(token) for token, _ in caption), default=0)
    most = max((x for _, x in caption), default=0)
    for token, x in caption:
        print(f"    {token:<{width}}  {'█' * round(BAR * x / (most or 1))}".rstrip())
    if not patches.any():
        print("    no part of the picture raises the score")
        return
    for row in patches / patches.max():
        print("    " + "".join(2 * SHADES[round(share * (len(SHADES) - 1))] for share in row))
