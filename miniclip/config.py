"""CLIP's configurations, which say how one CLIP differs from another: frozen dataclasses that check their values.

Builds on the towers, which know the shapes of their parameters. Other families, such as ALIGN, have their own
configurations in `families`, with the same checks.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from miniclip.errors import InputError
from miniclip.ops.numpy_ops import ACTIVATIONS
from miniclip.towers import resnet, text, vit


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """A size, (height, width) or one number for a square, as (height, width)."""
    return size if isinstance(size, tuple) else (size, size)


def square(size: int | tuple[int, int]) -> int | tuple[int, int]:
    """A size as configurations write it: one number if height and width are equal."""
    return size[0] if isinstance(size, tuple) and len(size) == 2 and size[0] == size[1] else size


# The ways to resize a picture to `size`, and Pillow's filters by name, in the order of Pillow's numbers.
RESIZE_MODES = ("shortest", "longest", "squash", "patches", "none")
INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")


@dataclass(frozen=True)
class PictureSettings:
    """How a model's pictures are prepared, if it is not as in its family: `families.preprocessing` does it.

    A picture is resized to `size`, (height, width) or one number for a square, in pixels: "shortest": it just covers
    `size`; "longest": it just fits into `size`, and is padded with `fill`; "squash": it gets this height and width;
    "patches": of the model's patches it gets as many as there are up to `size`, a number (families/siglip/naflex.py).
    Then its middle of size `crop` is kept, unless `crop` is None. Pixels x become scale · x, and for each (mean, std)
    of `normalize`, one after the other, (x - mean) / std: numbers, or one number a channel.

    `library` is "transformers" or "open_clip": what else their pictures depend on (see `families.preprocessing`).
    """

    resize: str
    size: int | tuple[int, int] | None  # None if `resize` is "none"
    crop: int | tuple[int, int] | None
    interpolation: str
    scale: float
    normalize: tuple[tuple[Any, Any], ...]
    fill: int = 0
    # Two models that differ only in this are equal: as always, another library prepares pictures in its own way.
    library: str = dataclasses.field(default="transformers", compare=False)

    def __post_init__(self):
        for name, known in (
            ("resize", RESIZE_MODES),
            ("interpolation", INTERPOLATIONS),
            ("library", ("transformers", "open_clip")),
        ):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        if self.resize != "none":
            check_image_size(self.size, "size")
        if self.crop is not None:
            check_image_size(self.crop, "crop")
        if self.resize == "patches" and (self.crop is not None or type(self.size) is not int):
            raise InputError(f"size is {self.size!r} and crop {self.crop!r}, expected a number of patches, and no crop")
        if not (_is_number(self.scale) and type(self.fill) is int and 0 <= self.fill < 256):
            raise InputError(f"scale is {self.scale!r} and fill {self.fill!r}, expected a number and one from 0 to 255")
        for mean, std in self.normalize:
            if not (_are_numbers(mean) and _are_numbers(std)):
                raise InputError(f"mean is {mean!r} and std {std!r}, expected numbers, one a channel")
            if 0 in (std if isinstance(std, tuple) else (std,)):
                raise InputError(f"std is {std!r}, expected numbers that are not 0")

    @property
    def image_size(self) -> int | tuple[int, int] | None:
        """The size of all prepared pictures; None if it depends on the picture."""
        return self.crop or (self.size if self.resize in ("longest", "squash") else None)

    def resized(self, old: int | tuple[int, int], new: int | tuple[int, int]) -> "PictureSettings":
        """The same settings for a model that now reads pictures of size `new` instead of `old`."""
        size, crop = (sides and _scaled(sides, pair(old), pair(new)) for sides in (self.size, self.crop))
        return dataclasses.replace(self, size=size, crop=crop)

    def means_the_same(self, other: "PictureSettings") -> bool:
        """Whether both prepare pictures alike; numbers may differ after the sixth digit, as files write them."""
        names = [field.name for field in dataclasses.fields(self) if field.compare]
        return all(_close(getattr(self, name), getattr(other, name)) for name in names)


def _is_number(x):
    return type(x) in (int, float) and math.isfinite(x)


def _are_numbers(x):
    return all(map(_is_number, x)) and len(x) > 0 if isinstance(x, tuple) else _is_number(x)


def _scaled(sides, old, new):
    return square(tuple(max(1, round(side * b / a)) for side, a, b in zip(pair(sides), old, new)))


def _close(a, b):
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_close, a, b))
    return math.isclose(a, b, rel_tol=1e-6) if isinstance(a, float) and isinstance(b, float) else a == b


@dataclass(frozen=True)
class VisionConfig:
    """A Vision Transformer. `image_size` and `patch_size` are in pixels; (height, width) or one number for a square.

    `pictures` is how they are prepared, None: as OpenAI's are.
    `antialias` is how position embeddings are interpolated for pictures of another size: True in OpenCLIP, False in
    transformers. Nothing else depends on it, and configurations that differ only in it are equal.
    """

    image_size: int | tuple[int, int]
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    channels: int = 3
    activation: str = "quick_gelu"
    eps: float = 1e-5
    pictures: PictureSettings | None = None
    antialias: bool = dataclasses.field(default=False, compare=False)

    tower: ClassVar[ModuleType] = vit
    causal: ClassVar[bool] = False  # for counting work; the tower knows it by itself

    def __post_init__(self):
        check_transformer(self)
        check_image_size(self.image_size)
        if type(self.antialias) is not bool:
            raise InputError(f"antialias is {self.antialias!r}, expected True or False")
        if 0 in self.grid:
            raise InputError(
                f"patches of {self.patch_size} pixels do not fit a picture of {self.image_size}: patch_size must not "
                f"be larger than image_size"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (down, across). A remainder at the edge is ignored, as by a convolution without padding."""
        height, width = pair(self.image_size)
        return height // self.patch_size, width // self.patch_size


@dataclass(frozen=True)
class ResNetConfig:
    """OpenAI's ModifiedResNet: `layers` are the blocks of its 4 stages, `width` the channels before the first stage.

    `image_size` is in pixels, (height, width) or one number for a square; `heads` are the attention pool's; `pictures`
    is as in VisionConfig.
    """

    image_size: int | tuple[int, int]
    width: int
    layers: tuple[int, int, int, int]
    heads: int
    channels: int = 3
    pictures: PictureSettings | None = None

    tower: ClassVar[ModuleType] = resnet

    def __post_init__(self):
        check_integers(self)
        check_image_size(self.image_size)
        if any(n % 32 for n in pair(self.image_size)):
            raise InputError(
                f"image_size is {self.image_size!r}, expected multiples of 32: a ResNet halves a picture five times"
            )
        counts = self.layers if isinstance(self.layers, tuple) else ()
        if len(counts) != 4 or not all(type(n) is int and 0 < n <= 1000 for n in counts):
            raise InputError(f"layers is {self.layers!r}, expected the numbers of blocks in 4 stages")
        if self.width % 2:
            raise InputError(f"width is {self.width}, expected an even number: the stem begins with half of it")
        if 32 * self.width % self.heads:
            raise InputError(
                f"width {32 * self.width} of the last grid cannot be shared by {self.heads} heads: 32 · width must be "
                f"a multiple of heads"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Cells (down, across) of the last grid, which the attention pool reads."""
        height, width = pair(self.image_size)
        return height // 32, width // 32


@dataclass(frozen=True)
class TextConfig:
    """A causal text transformer. `eot_token_id` None: the end of a text is its highest id, as in OpenAI's code."""

    context_length: int
    vocab_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: str = "quick_gelu"
    eps: float = 1e-5
    eot_token_id: int | None = None

    tower: ClassVar[ModuleType] = text
    causal: ClassVar[bool] = True

    def __post_init__(self):
        check_transformer(self)
        end = self.eot_token_id
        if end is not None and not (type(end) is int and 0 <= end < 1 << 31):
            raise InputError(f"eot_token_id is {end!r}, expected None or an id")

    @property
    def text_length(self) -> int:
        """The length, in tokens, that texts are padded to by default."""
        return self.context_length


def check_integers(config, except_for=()):
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type is int and field.name not in except_for and not (type(value) is int and 0 < value < 1 << 31):
            raise InputError(f"{field.name} is {value!r}, expected a positive integer")


def check_activation(config):
    if config.activation not in ACTIVATIONS:
        raise InputError(f"activation is {config.activation!r}, expected one of {', '.join(ACTIVATIONS)}")


def check_transformer(config, except_for=()):
    """Raise InputError for values that no transformer can have."""
    check_integers(config, except_for)
    check_activation(config)
    if config.layers > 1000:
        raise InputError(f"layers is {config.layers}, expected at most 1000")
    if not (isinstance(config.eps, float) and 0 <= config.eps <= 1):
        raise InputError(f"eps is {config.eps!r}, expected a float from 0 to 1")
    if config.width % config.heads:
        raise InputError(
            f"width {config.width} cannot be shared by {config.heads} heads: width must be a multiple of heads"
        )


def check_choice(config, name, known):
    if getattr(config, name) not in known:
        raise InputError(f"{name} is {getattr(config, name)!r}, expected one of {', '.join(known)}")


def check_image_size(size, name="image_size"):
    if not ((isinstance(size, tuple) and len(size) == 2) or type(size) is int):
        raise InputError(f"{name} is {size!r}, expected a number of pixels or (height, width)")
    if not all(type(n) is int and 0 < n < 1 << 16 for n in pair(size)):
        raise InputError(f"{name} is {size!r}, expected positive integers below 65,536")


@dataclass(frozen=True)
class ModelConfig:
    """Two towers and the width of the space that they share: the fields of every family's configuration.

    For one tower alone, the other is None. `embed_dim` None: there is no projection, and features have the width of
    their tower.
    """

    visual: Any
    text: Any
    embed_dim: int | None

    family: ClassVar[str]
    scalars: ClassVar[tuple[str, ...]]  # the only parameters outside the towers, each one number
    independent: ClassVar[bool] = False  # a text's probability is the sigmoid of its logit: others do not change it
    towers: ClassVar[dict[str, Sequence[type]]]  # the classes that `visual` and `text` may have
    tokenizer: ClassVar[str]  # the name of its tokenizer's class

    def shapes(self) -> dict[str, Any]:
        """The model's parameter tree, with shapes as leaves."""
        tree: dict[str, Any] = {}
        if self.visual:
            tree["visual"] = self.visual.tower.shapes(self.visual, self.embed_dim)
        if self.text:
            tree["text"] = self.text.tower.shapes(self.text, self.embed_dim)
        if self.visual and self.text:
            tree |= dict.fromkeys(self.scalars, ())
        return tree

    def to_dict(self) -> dict[str, Any]:
        """All values and the family's name, in types that JSON has."""
        values = {"family": self.family, **dataclasses.asdict(self)}
        if values["visual"] and values["visual"]["pictures"] is None:
            del values["visual"]["pictures"]  # so that miniclip 0.1 can read the file
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """The inverse of `to_dict`, for this family (`families.from_dict` finds the family).

        Raises InputError for another family, and for unknown, missing or impossible values.
        """
        try:
            if values.get("family") not in (None, cls.family):
                raise InputError(f"the family is {values['family']!r}, expected {cls.family!r}")
            towers = {name: values[name] and _tower(kinds, values[name]) for name, kinds in cls.towers.items()}
            return cls(**towers, embed_dim=values["embed_dim"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"not a miniclip configuration: {error}") from error


@dataclass(frozen=True)
class CLIPConfig(ModelConfig):
    """CLIP's configuration: a Vision Transformer or a ResNet for pictures, a causal transformer for texts."""

    visual: VisionConfig | ResNetConfig | None
    text: TextConfig | None

    family: ClassVar[str] = "clip"
    scalars: ClassVar[tuple[str, ...]] = ("logit_scale",)
    towers: ClassVar[dict[str, Sequence[type]]] = {"visual": (VisionConfig, ResNetConfig), "text": (TextConfig,)}
    tokenizer: ClassVar[str] = "Tokenizer"


def _tower(kinds, values):
    """A tower's configuration from JSON: the first of `kinds` that has these fields."""
    kind = next((kind for kind in kinds if _has_fields(kind, values)), kinds[0])
    values = {name: _tuples(value) for name, value in values.items()}
    if values.get("pictures") is not None:
        values["pictures"] = PictureSettings(**{name: _tuples(x) for name, x in values["pictures"].items()})
    return kind(**values)


def _has_fields(kind, values):
    """Whether `values` has all required fields of `kind` and no unknown ones."""
    fields = dataclasses.fields(kind)
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    return needed <= values.keys() <= {field.name for field in fields}


def _tuples(value):
    """The value with tuples instead of lists, since JSON has no tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
