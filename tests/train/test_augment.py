"""OpenCLIP's random crops: their distribution, and that they are crops which are then resized."""

import math

import numpy as np
import pytest
from PIL import Image

from miniclip import InputError
from miniclip.train.data.augment import Augment

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))


class Numbers:
    """A random generator whose numbers are given: uniform ones as shares of their range."""

    def __init__(self, uniform, integers=()):
        self.shares, self.chosen = iter(uniform), iter(integers)

    def uniform(self, low, high):
        return low + (high - low) * next(self.shares)

    def integers(self, n):
        self.most = n - 1
        return min(next(self.chosen), n - 1)

    def random(self):
        return next(self.shares)


def test_the_area_and_the_ratio_decide_the_crop():
    # a square of 0.95 of the area, 68 x 68, does not fit into 60 rows; then 0.9 of it, 4 wide to 3 tall
    x, y, w, h = Augment().crop(80, 60, Numbers([0.5, 0.5, 0, 1], [1, 2]))
    assert (w, h) == (round(math.sqrt(0.9 * 4800 * 4 / 3)), round(math.sqrt(0.9 * 4800 * 3 / 4))) == (76, 57)
    assert (x, y) == (2, 1)  # the row is drawn first


@pytest.mark.parametrize("size, crop", [((100, 10), (43, 0, 13, 10)), ((10, 100), (0, 43, 10, 13))])
def test_a_very_long_picture_keeps_its_middle(size, crop):
    assert Augment().crop(*size, np.random.default_rng(0)) == crop


def test_a_picture_without_room_for_any_shape_is_kept_whole():
    assert Augment(scale=(1, 1), ratio=(1.2, 1.3)).crop(125, 100, Numbers([0.5, 0] * 10)) == (0, 0, 125, 100)


def test_areas_and_ratios_are_spread_as_they_should():
    rng, augment = np.random.default_rng(0), Augment(scale=(0.2, 0.8), ratio=(0.5, 2))
    crops = np.array([augment.crop(1000, 1000, rng) for _ in range(4000)])
    x, y, w, h = crops.T
    assert (x >= 0).all() and (y >= 0).all() and (x + w <= 1000).all() and (y + h <= 1000).all()
    areas, ratios = w * h / 1e6, np.log(w / h) / np.log(2)
    fits = areas < 0.5  # every ratio fits: nothing is tried again
    assert np.abs(np.quantile(areas[fits], [0, 0.5, 1]) - [0.2, 0.35, 0.5]).max() < 0.01
    assert np.abs(np.quantile(ratios[fits], [0, 0.25, 0.5, 0.75, 1]) - [-1, -0.5, 0, 0.5, 1]).max() < 0.05


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "RGBA"])
def test_a_crop_is_resized_after_it_was_cut_out(mode):
    """As torchvision does. Pillow's resize(box=...) lets the pixels around the box shine in."""
    image = NOISE.convert(mode)
    x, y, w, h = Augment().crop(80, 60, np.random.default_rng(1))
    result = Augment()(image, (30, 20), np.random.default_rng(1))
    cut = image.crop((x, y, x + w, y + h)).resize((20, 30), Image.Resampling.BICUBIC)
    assert result.mode == mode and result.size == (20, 30) and result.tobytes() == cut.tobytes()
    if mode == "RGB":
        boxed = image.resize((20, 30), Image.Resampling.BICUBIC, box=(x, y, x + w, y + h))
        assert boxed.tobytes() != cut.tobytes()


def test_half_of_the_pictures_are_mirrored_if_asked():
    mirrored = 0
    for seed in range(100):
        plain, flipped = (Augment(flip=flip)(NOISE, 20, np.random.default_rng(seed)) for flip in (False, True))
        turned = plain.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert flipped.tobytes() in (plain.tobytes(), turned.tobytes())
        mirrored += flipped.tobytes() == turned.tobytes()
    assert 35 < mirrored < 65


@pytest.mark.parametrize(
    "wrong", [{"scale": 0.9}, {"scale": (0, 1)}, {"scale": (0.9, 1.1)}, {"ratio": (2, 1)}, {"ratio": (1, math.inf)}]
)
def test_limits_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError, match=r"expected \(least, most\) with 0 < least <= most"):
        Augment(**wrong)
