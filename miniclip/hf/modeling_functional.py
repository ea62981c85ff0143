"""What the Flax and the TensorFlow models share: how they read inputs, and how they write files."""

import functools
from pathlib import Path
from typing import Any

from miniclip.checkpoints.huggingface import WEIGHTS
from miniclip.formats import safetensors
from miniclip.hf.modeling import check_absent, check_present
from miniclip.runtime.files import write_json


class FunctionalModel:
    """A model that computes with `functional.run`. Its class says how it is called, as transformers' class does."""

    config_class: type
    tower: str | None = None
    projected = True
    main_input_name = "input_ids"
    framework: str
    config: Any
    _ours: Any  # miniclip's configuration
    _running: Any  # the module for the framework, flax_running or tensorflow_running, imported when a model is made

    @classmethod
    def _from_config(cls, config: Any, **options: Any) -> Any:
        return cls(config, **options)  # type: ignore[call-arg]

    @classmethod
    def can_generate(cls) -> bool:
        return False

    def _texts(self, input_ids, attention_mask, position_ids):
        """(tokens, mask, None): the inputs of a call without pictures."""
        check_present(input_ids=input_ids)
        check_absent(position_ids=position_ids)
        return *self._running.tokens_and_mask(input_ids, attention_mask, self._ours.text), None

    def _pictures(self, pixel_values):
        """(None, None, pixels): the inputs of a call without texts."""
        check_present(pixel_values=pixel_values)
        return None, None, self._running.pixels(pixel_values, self._ours.visual)

    def _look(self, attentions, hidden_states, features):
        """What `functional.run` takes as `look`; None, None: as the configuration says."""
        attentions = self.config.output_attentions if attentions is None else attentions
        hidden_states = self.config.output_hidden_states if hidden_states is None else hidden_states
        return None if features else (bool(hidden_states), bool(attentions))

    def _write(self, directory, arrays, safe, file, write):
        """Write config.json and {name: array}: if `safe` model.safetensors, else `file`, by write(path, arrays)."""
        if safe:
            file, write = WEIGHTS[0], functools.partial(safetensors.write, metadata={"format": self.framework})
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write(directory / file, arrays)
        (directory / f"{file}.index.json").unlink(missing_ok=True)  # of older weights
        architectures = [type(self).__name__.removeprefix("TF").removeprefix("Flax")]
        write_json(directory / "config.json", {**self.config.to_dict(), "architectures": architectures})
