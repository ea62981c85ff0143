"""SigLIP's preprocessing as settings: transformers prepares pictures by them, and so does `families.preprocessing`."""

from miniclip.config import PictureSettings

HALF = (0.5, 0.5, 0.5)  # mean and standard deviation: pixels become -1 to 1


def own_settings(image_size, library="transformers"):
    """PictureSettings of SigLIP (transformers, image_processing_pil_siglip.py): a picture of any shape is squashed."""
    return PictureSettings("squash", image_size, None, "bicubic", 1 / 255, ((HALF, HALF),), library=library)
