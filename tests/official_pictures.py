"""Pictures of random bytes, and the official preprocessing."""

import numpy as np
import torch
from PIL import Image, ImageOps

BICUBIC = Image.Resampling.BICUBIC


def noise(mode, width, height, seed=0):
    """A picture of random bytes; modes with a palette or transparency get random ones."""
    random = np.random.default_rng(seed)
    if mode in ("I", "F"):
        values = random.integers(0, 256, (height, width))
        return Image.fromarray(values.astype(np.int32 if mode == "I" else np.float32))
    # In mode "1" a byte has eight pixels, and every row begins with a new byte.
    count = (width + 7) // 8 * height if mode == "1" else width * height * len(Image.new(mode, (1, 1)).getbands())
    picture = Image.frombytes(mode, (width, height), random.bytes(count))
    if mode == "P":
        picture.putpalette(random.bytes(768))
    return picture


def official_square(picture, size):
    """Resize(size, BICUBIC) and CenterCrop(size) of torchvision, on PIL images."""
    width, height = picture.size
    if width <= height:
        width, height = size, int(size * height / width)
    else:
        width, height = int(size * width / height), size
    picture = picture.resize((width, height), BICUBIC)
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return picture.crop((left, top, left + size, top + size))


def official(picture, size):
    """The steps of `_transform` in clip/clip.py, which cannot be imported without torchvision."""
    rgb = official_square(picture, size).convert("RGB")
    x = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)  # ToTensor
    mean = torch.tensor((0.48145466, 0.4578275, 0.40821073), dtype=torch.float32)
    std = torch.tensor((0.26862954, 0.26130258, 0.27577711), dtype=torch.float32)
    return x.sub(mean[:, None, None]).div(std[:, None, None]).numpy()  # Normalize


def official_open_clip(picture, size, mode, interpolation, mean, std, fill_color):
    """`image_transform` in open_clip/transform.py, for inference; torchvision's functions are written out for PIL."""
    height, width = size if isinstance(size, tuple) else (size, size)
    kernel = Image.Resampling.BILINEAR if interpolation == "bilinear" else BICUBIC
    if mode == "squash":
        picture = picture.resize((width, height), kernel)
    elif mode == "shortest" and height == width:
        long = [int(height * max(picture.size) / min(picture.size)), height]
        picture = picture.resize(long if picture.width > picture.height else long[::-1], kernel)
    else:  # ResizeKeepRatio, which gets no interpolation if it is the shortest
        ratios = picture.height / height, picture.width / width
        ratio = max(ratios) if mode == "longest" else min(ratios)
        kernel = kernel if mode == "longest" else BICUBIC
        picture = picture.resize([round(side / ratio) for side in picture.size], kernel)
    if mode == "longest":  # CenterCropOrPad
        x, y = max(width - picture.width, 0), max(height - picture.height, 0)
        fill = (fill_color,) * len(picture.getbands()) if len(picture.getbands()) > 1 else fill_color
        picture = ImageOps.expand(picture, (x // 2, y // 2, (x + 1) // 2, (y + 1) // 2), fill)
    if mode == "shortest":
        left, top = round((picture.width - width) / 2.0), round((picture.height - height) / 2.0)
        picture = picture.crop((left, top, left + width, top + height))
    x = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    return x.sub(torch.tensor(mean)[:, None, None]).div(torch.tensor(std)[:, None, None]).numpy()
