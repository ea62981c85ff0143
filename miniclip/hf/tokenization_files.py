"""Files of `miniclip.hf`'s tokenizers: `from_pretrained`, `save_pretrained`, and the settings that both know."""

from pathlib import Path
from typing import Any

from miniclip import checkpoints
from miniclip.errors import InputError
from miniclip.families.tokenizer_settings import DECLARED, EXTRA, ROLES, read_settings
from miniclip.hf.files import find
from miniclip.hf.text_inputs import size

ANY_LENGTH = int(1e30)  # tokens: no limit
SETTINGS = {
    *(*ROLES, EXTRA, DECLARED, "model_max_length", "padding_side", "truncation_side", "model_input_names"),
    *("name_or_path", "verbose"),
}
# Arguments of transformers that change nothing here.
WORDPIECE = ("do_lower_case", "tokenize_chinese_chars", "strip_accents")  # for a WordPiece, when it is made
IDLE = {
    *("use_fast", "legacy", "from_slow", "trust_remote_code", *WORDPIECE),
    *("clean_up_tokenization_spaces", "add_prefix_space", "add_bos_token", "add_eos_token", "errors", "never_split"),
    *("processor_class", "backend", "is_local", "_from_auto", "_commit_hash", "do_basic_tokenize"),
    *("local_files_only", "unk_id"),
}


def model_length(value: Any) -> int:
    """A `model_max_length`: a whole number, None for no limit. Raises InputError."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return ANY_LENGTH if value is None else size("model_max_length", value) or 0


class TokenizerFiles:
    """The methods of a tokenizer that read and write files."""

    family: Any
    kinds: tuple[type, ...]  # what a file's vocabulary must be
    tokenizer: Any
    extra_special_tokens: Any
    model_max_length: int
    _settings: dict[str, Any]

    @classmethod
    def _checked_settings(cls, settings):
        """The settings with transformers' defaults and its newer names. Raises InputError for unknown ones."""
        settings = {**cls.family.SPECIAL, **settings}
        if "additional_special_tokens" in settings:
            settings[EXTRA] = settings.pop("additional_special_tokens") or settings.get(EXTRA)
        unknown = sorted(settings.keys() - SETTINGS - IDLE)
        if unknown:
            raise InputError(f"{cls.__name__} takes no {', '.join(unknown)} here: leave it out")
        if not isinstance(settings.get(EXTRA) or [], (list, tuple)):
            raise InputError(f"{EXTRA} is {settings[EXTRA]!r}, expected a list of tokens")
        return settings

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """What the tokenizer was made with."""
        return {"tokenizer": self.tokenizer, **self._settings}

    init_inputs = ()

    @classmethod
    def from_pretrained(cls, name: Any, **options: Any) -> Any:
        """The tokenizer of a model; `name` as in `miniclip.load`: a directory, a file or a model's name.

        `options` replace settings of the files: `pad_token`, `model_max_length`, `padding_side`, ... A directory in
        the model's is named by `subfolder`. Raises InputError that names the file that cannot be used.
        """
        path = find(name, options, weights=False)
        cls._checked_settings(options)
        if path.is_dir() or path.suffix in (".json", ".txt", ".model"):
            read = {} if path.suffix in (".txt", ".model") else read_settings(path)
            tokenizer = cls.family.read_vocabulary(path, {**read, **options})
        else:
            config, _, tokenizer = checkpoints.load(path)
            tokenizer = tokenizer or cls._default()
            read = {"model_max_length": config.text and config.text.context_length}
        if not isinstance(tokenizer, cls.kinds):
            raise InputError(
                f"{path}: has no vocabulary for a {cls.__name__}: put its files there (vocab.json and merges.txt, "
                f"vocab.txt, spiece.model, sentencepiece.bpe.model or tokenizer.json), or make the tokenizer from "
                f"them; CLIPTokenizer() has the official vocabulary"
            )
        known = {name: x for name, x in {**read, **options}.items() if name in SETTINGS | IDLE}
        try:
            found: Any = cls(tokenizer=tokenizer, **{"name_or_path": str(name), **known})  # type: ignore[call-arg]
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        found._settings = {**read, **found._settings}
        return found

    @classmethod
    def _default(cls):
        return None

    def save_vocabulary(self, save_directory: Any, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write the files of the vocabulary into an existing directory; returns their paths."""
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        return tuple(map(str, self.family.save_vocabulary(Path(save_directory), self.tokenizer, prefix)))

    def save_pretrained(self, directory: Any, filename_prefix: str | None = None, **options: Any) -> tuple[str, ...]:
        """Write the files that `from_pretrained` needs, here and in transformers; creates the directory if needed."""
        for name in options:
            if options[name] and name not in ("legacy_format", "safe_serialization", "save_jinja_files"):
                raise InputError(f"{type(self).__name__}.save_pretrained takes no {name}: leave it out")
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        arguments = (directory, self.tokenizer, self.model_max_length, self._to_settings(), prefix)
        return tuple(map(str, self.family.save_tokenizer(*arguments)))

    def _to_settings(self):
        """The settings as they are now, without those that say where the tokenizer came from."""
        dropped = {DECLARED, EXTRA, *ROLES, *WORDPIECE, "name_or_path", "is_local", "verbose", "backend"}
        kept = {name: x for name, x in self._settings.items() if name not in dropped}
        extra = {EXTRA: self.extra_special_tokens} if self.extra_special_tokens else {}
        roles = {role: getattr(self, role) for role in ROLES if role in self.family.SPECIAL or getattr(self, role)}
        sides = {name: getattr(self, name) for name in ("model_max_length", "padding_side", "truncation_side")}
        return {**kept, **roles, **extra, **sides}
