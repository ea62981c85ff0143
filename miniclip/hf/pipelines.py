"""transformers' pipeline("zero-shot-image-classification"): model, tokenizer and image processor in one call."""

import os
from collections.abc import Sequence
from typing import Any

from miniclip import zero_shot
from miniclip.errors import InputError
from miniclip.hf.auto import from_pretrained
from miniclip.runtime.pictures import Picture, open_picture

SIGLIP_LENGTH = 64  # transformers pads all texts of a SigLIP to it, whatever the model's own length is


class ZeroShotImageClassificationPipeline:
    """Pictures and labels -> scores: transformers' class, see `pipeline`."""

    task = "zero-shot-image-classification"

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any):
        self.model, self.tokenizer, self.image_processor = model, tokenizer, image_processor

    def __call__(
        self,
        image: Picture | Sequence[Picture],
        candidate_labels: Sequence[str],
        hypothesis_template: str = "This is a photo of {}.",
        *,
        batch_size: int = 32,
    ) -> list:
        """[{"score": from 0 to 1, "label": label}, ...], the highest score first; for pictures, a list of such lists.

        A picture is a file, base64, a PIL image or an array; as in transformers it is turned as its EXIF orientation
        says, and transparency is dropped. Scores sum to one, except a SigLIP's, which are independent.
        `hypothesis_template` is a text with "{}" for the label, and `batch_size` says how many pictures are computed
        together. Raises InputError.
        """
        labels = [] if isinstance(candidate_labels, str) else [*candidate_labels]
        if not labels:
            raise InputError(f"candidate_labels is {candidate_labels!r}, expected a list of at least one text")
        if type(batch_size) is not int or batch_size < 1:
            raise InputError(f"batch_size is {batch_size!r}, expected a number of pictures")
        padding: dict[str, Any] = {"padding": True}
        if self.model.model.config.independent:
            padding = {"padding": "max_length", "max_length": SIGLIP_LENGTH, "truncation": True}
        sentences = [hypothesis_template.format(label) for label in labels]
        texts = self.tokenizer(sentences, return_tensors="np", **padding)
        images = [*image] if isinstance(image, (list, tuple)) else [image]
        found = []
        for start in range(0, len(images), batch_size):
            batch = [
                open_picture(each, f"picture {start + i}", exif=True).convert("RGB")
                for i, each in enumerate(images[start : start + batch_size])
            ]
            pixels = self.image_processor(batch, return_tensors="np")
            logits = self.model(**texts, **pixels).logits_per_image  # (B, N)
            for scores in zero_shot.precise_probabilities(self.model.model, logits).tolist():
                rows = sorted(zip(scores, labels), key=lambda row: -row[0])
                found.append([{"score": score, "label": label} for score, label in rows])
        return found if isinstance(image, (list, tuple)) else found[0]


def pipeline(
    task: str = ZeroShotImageClassificationPipeline.task,
    model: Any = None,
    *,
    tokenizer: Any = None,
    image_processor: Any = None,
    **options: Any,
) -> ZeroShotImageClassificationPipeline:
    """transformers' `pipeline`, for the task "zero-shot-image-classification" alone.

    model    the name or path of a whole model with both towers, as for `from_pretrained`, with whose
             `options` it is loaded; or a model, and then its `tokenizer` and `image_processor` are needed, too

    Raises InputError.
    """
    if task != ZeroShotImageClassificationPipeline.task:
        raise InputError(f"task is {task!r}, expected {ZeroShotImageClassificationPipeline.task!r}")
    if type(options.get("device")) is int:  # transformers' numbers: of a GPU, or -1 for the CPU
        options["device"] = "cpu" if options["device"] < 0 else f"cuda:{options['device']}"
    if isinstance(model, (str, os.PathLike)):
        name, (model, processor) = model, from_pretrained(model, processor=True, **options)
        if model.tower is not None:
            raise InputError(f"{name}: has only a {model.tower} tower, and {task} needs both")
        tokenizer, image_processor = tokenizer or processor.tokenizer, image_processor or processor.image_processor
    elif None in (model, tokenizer, image_processor) or options:
        raise InputError(
            "give model as a name or a path, or a model with its tokenizer and image_processor, and no more"
        )
    return ZeroShotImageClassificationPipeline(model, tokenizer, image_processor)
