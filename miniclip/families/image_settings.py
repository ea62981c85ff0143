"""transformers' settings of an image processor, in preprocessor_config.json: to and from `PictureSettings`."""

from miniclip.config import INTERPOLATIONS, PictureSettings, check_image_size, pair
from miniclip.config import square as shortened
from miniclip.errors import InputError


def given(settings):
    """The settings that say something: None is the default, but of a step, such as do_resize, it means no."""
    said = {name: value for name, value in settings.items() if value is not None or name.startswith("do_")}
    return {name: False if value is None else value for name, value in said.items()}


def read(values, default_to_square=False):
    """{transformers' name: value}, complete -> PictureSettings. Raises InputError that names the bad setting.

    A `size` of one number is the short side, or both sides if `default_to_square`.
    """
    if values.get("do_pad"):
        raise InputError(f"do_pad is {values['do_pad']!r}, but miniclip does not pad pictures: leave it out")
    resize, size = _resize(values["size"], default_to_square) if values["do_resize"] else ("none", None)
    normalize = []
    if values["do_rescale"] and values.get("rescale_offset"):
        normalize.append((1.0, 1.0))
    if values["do_normalize"]:
        normalize.append((_numbers(values["image_mean"], "image_mean"), _numbers(values["image_std"], "image_std")))
    if values.get("include_top"):
        normalize.append((0.0, _numbers(values["image_std"], "image_std")))
    factor = values["rescale_factor"]
    if values["do_rescale"] and type(factor) not in (int, float):
        raise InputError(f"rescale_factor is {factor!r}, expected a number")
    return PictureSettings(
        resize=resize,
        size=size,
        crop=sides(values["crop_size"], "crop_size") if values["do_center_crop"] else None,
        interpolation=_interpolation(values["resample"]) if values["do_resize"] else "nearest",
        scale=float(factor) if values["do_rescale"] else 1.0,
        normalize=tuple(normalize),
    )


def sides(size, name):
    """A size in any of transformers' forms -> one number for a square, else (height, width). Raises InputError."""
    if isinstance(size, dict):
        if size.keys() != {"height", "width"}:
            raise InputError(f"{name} is {size!r}, expected a height and a width")
        size = (size["height"], size["width"])
    size = tuple(size) if isinstance(size, list) else size
    check_image_size(size, name)
    return shortened(size)


def _resize(size, default_to_square):
    if isinstance(size, dict) and size.keys() == {"shortest_edge"}:
        size, default_to_square = size["shortest_edge"], False
        check_image_size(size, "size")
    elif isinstance(size, dict) and size.keys() != {"height", "width"}:
        raise InputError(f"size is {size!r}, expected a shortest_edge, or a height and a width")
    shortest = not default_to_square and not isinstance(size, (dict, list, tuple))
    return "shortest" if shortest else "squash", sides(size, "size")


def _interpolation(resample):
    value = getattr(resample, "value", resample)  # Pillow's and torchvision's enumerations
    if value in INTERPOLATIONS:
        return value
    if type(value) is not int or not 0 <= value < len(INTERPOLATIONS):
        raise InputError(f"resample is {resample!r}, expected one of Pillow's filters, 0 to {len(INTERPOLATIONS) - 1}")
    return INTERPOLATIONS[value]


def _numbers(values, name):
    try:
        return float(values) if isinstance(values, (int, float)) else tuple(map(float, values))
    except (TypeError, ValueError):
        raise InputError(f"{name} is {values!r}, expected numbers, one a channel") from None


def write(pictures, own=()):
    """The inverse of `read`. `own`: the settings that only this family's image processor has, beside all families'.

    Raises InputError if transformers cannot express the settings.
    """
    if pictures.resize == "longest" or (pictures.resize == "shortest" and isinstance(pictures.size, tuple)):
        raise InputError(f"transformers cannot resize pictures to {pictures.size} by their {pictures.resize} side")
    rest = list(pictures.normalize)
    offset = "rescale_offset" in own and rest[:1] == [(1.0, 1.0)] and bool(rest.pop(0))
    top = "include_top" in own and rest != [] and rest[-1][0] == 0.0 and rest.pop()[1]
    mean, std = rest.pop(0) if rest else (0.0, top or 1.0)
    if rest or (top and top != std):
        raise InputError(f"transformers cannot normalise pictures by {pictures.normalize}")
    normalizes = len(pictures.normalize) > offset + bool(top)
    size = pictures.size if pictures.resize != "none" else pictures.crop or 1
    return {
        "size": {"shortest_edge": size} if pictures.resize == "shortest" else square(size),
        "crop_size": square(pictures.crop or pictures.size or 1),
        "resample": INTERPOLATIONS.index(pictures.interpolation),
        "rescale_factor": pictures.scale,
        "do_resize": pictures.resize != "none",
        "do_center_crop": pictures.crop is not None,
        "do_rescale": pictures.scale != 1.0,
        "do_normalize": normalizes,
        **({"image_mean": _listed(mean), "image_std": _listed(std)} if normalizes or top else {}),
        **{name: value for name, value in {"rescale_offset": offset, "include_top": bool(top)}.items() if name in own},
    }


def square(size):
    """A size as transformers writes it."""
    return dict(zip(("height", "width"), pair(size)))


def _listed(values):
    return [*values] if isinstance(values, tuple) else values
