"""transformers' tokenizers around `miniclip.Tokenizer` and `WordPiece`: special tokens, pairs, padding, truncation.

The tokens come from the wrapped tokenizers: BERT's for ALIGN, OpenAI's for CLIP. OpenAI's first repairs texts that were
decoded wrongly and unescapes HTML; transformers' tokenizers in Rust do neither.
"""

import inspect
from pathlib import Path

import numpy as np

from miniclip import checkpoints
from miniclip.errors import InputError
from miniclip.families.align import huggingface as align_huggingface
from miniclip.families.clip import huggingface as clip_huggingface
from miniclip.fetch import hub, vocabulary
from miniclip.formats import read_json
from miniclip.hf.outputs import as_batch, check_options, is_tensor
from miniclip.tokenizer import Tokenizer
from miniclip.tokenizers.wordpiece import WordPiece

ANY_LENGTH = int(1e30)  # tokens: no limit
PADDING = {
    **{False: None, None: None, "do_not_pad": None, True: "longest"},
    **{name: name for name in ("longest", "max_length")},
}
COLUMNS = ("input_ids", "token_type_ids", "attention_mask", "special_tokens_mask")
TRUNCATION = {
    **{False: None, None: None, "do_not_truncate": None, True: "longest_first"},
    **{name: name for name in ("longest_first", "only_first", "only_second")},
}


class PreTrainedTokenizer:
    """The base class of both tokenizers.

    tokenizer         the wrapped Tokenizer or WordPiece
    model_max_length  the default `max_length` of `padding="max_length"` and `truncation=True`, in tokens
    """

    family = None  # the module with transformers' names
    model_input_names: tuple
    truncation_side = "right"
    padding_side = "right"  # or "left", which CLIP and ALIGN do not use

    def __init__(self, tokenizer, model_max_length=ANY_LENGTH):
        self.tokenizer = tokenizer
        self.model_max_length = model_max_length
        self.special_tokens_map = {
            role: token for role, token in self.family.SPECIAL.items() if token in tokenizer.encoder
        }
        for role, token in self.special_tokens_map.items():
            setattr(self, role, token)
            setattr(self, f"{role}_id", tokenizer.encoder[token])
        self.all_special_tokens = list(dict.fromkeys(self.special_tokens_map.values()))
        self.all_special_ids = [tokenizer.encoder[token] for token in self.all_special_tokens]

    # ------------------------------------------------------------------------------------------ texts to ids

    def __call__(
        self,
        text,
        text_pair=None,
        add_special_tokens=True,
        padding=False,
        truncation=None,
        max_length=None,
        *,
        pad_to_multiple_of=None,
        return_tensors=None,
        return_token_type_ids=None,
        return_attention_mask=None,
        return_special_tokens_mask=False,
        return_length=False,
    ):
        """Texts to {"input_ids": ..., "attention_mask": ...}, and "token_type_ids" for BERT: lists, arrays or tensors.

        text, text_pair  a str each, or two lists of the same length; the two texts of a pair become one row
        padding          True: pad all rows to the longest one; "max_length": to `max_length`
        truncation       True: cut rows to `max_length`, the longer text of a pair first; or "only_first", "only_second"
        max_length       None: the tokenizer's `model_max_length`
        return_tensors   "np", "pt", or None for lists

        Raises InputError for inputs that are not texts, and if rows of different lengths cannot become one array.
        """
        if max_length is not None and padding is False and truncation is None:
            truncation = True
        texts, pairs = ([x] if isinstance(x, str) else x for x in (text, text_pair))
        self._check_texts(texts, pairs)
        strategy = _choice("truncation", truncation, TRUNCATION)
        rows = []
        for one, other in zip(texts, pairs or [None] * len(texts)):
            ids = self.tokenizer.encode(one), None if other is None else self.tokenizer.encode(other)
            ids = self._truncated(*ids, strategy, max_length, add_special_tokens)
            rows.append(self._row(self._parts(*ids) if add_special_tokens else _without_special(*ids)))
        if return_token_type_ids is None:
            return_token_type_ids = "token_type_ids" in self.model_input_names
        wanted = (True, return_token_type_ids, return_attention_mask is not False, return_special_tokens_mask)
        columns = {name: [row[name] for row in rows] for name, is_wanted in zip(COLUMNS, wanted) if is_wanted}
        padded = self._padded(columns, padding, max_length, pad_to_multiple_of)
        if return_length:
            padded["length"] = [len(row) for row in padded["input_ids"]]
        if isinstance(text, str) and return_tensors is None:
            padded = {name: x if name == "length" else x[0] for name, x in padded.items()}
        return as_batch(padded, return_tensors)

    def encode(self, text, text_pair=None, add_special_tokens=True, **options):
        """The "input_ids" alone, of a text or a list of texts."""
        return self(text, text_pair, add_special_tokens, **options)["input_ids"]

    def tokenize(self, text):
        """A text's tokens as strings, without special ones: "a cat" -> ["a</w>", "cat</w>"]."""
        return self.convert_ids_to_tokens(self.tokenizer.encode(text))

    def pad(
        self,
        encoded_inputs,
        padding=True,
        max_length=None,
        pad_to_multiple_of=None,
        return_attention_mask=None,
        return_tensors=None,
    ):
        """Pad rows to one length: {"input_ids": [[...], ...]}, one row of it, or a list of {"input_ids": [...]}."""
        if not isinstance(encoded_inputs, dict):
            encoded_inputs = {name: [row[name] for row in encoded_inputs] for name in encoded_inputs[0]}
        one = np.ndim(encoded_inputs["input_ids"][:1]) == 1 and len(encoded_inputs["input_ids"]) > 0
        columns = {name: [x] if one else x for name, x in encoded_inputs.items()}
        columns = {name: [list(row) for row in rows] for name, rows in columns.items()}
        if return_attention_mask is not False:
            columns.setdefault("attention_mask", [[1] * len(row) for row in columns["input_ids"]])
        padded = self._padded(columns, padding, max_length, pad_to_multiple_of)
        if one and return_tensors is None:
            padded = {name: rows[0] for name, rows in padded.items()}
        return as_batch(padded, return_tensors)

    def _check_texts(self, texts, pairs):
        for name, given in (("text", texts), ("text_pair", pairs)):
            if given is not None and not (isinstance(given, (list, tuple)) and all(isinstance(x, str) for x in given)):
                raise InputError(f"{name} is {given!r}, expected a str or a list of str")
        if texts is None or (pairs is not None and len(pairs) != len(texts)):
            raise InputError("text is missing, or text_pair has not as many texts as text")

    def _truncated(self, first, second, strategy, max_length, add_special_tokens):
        limit = self.model_max_length if max_length is None else max_length
        room = limit - (self.num_special_tokens_to_add(second is not None) if add_special_tokens else 0)
        a, b = len(first), len(second or [])
        if strategy is None or a + b <= room:
            return first, second
        if room < 0 or (strategy == "only_first" and b > room) or (strategy == "only_second" and a > room):
            raise InputError(f"max_length is {limit}: too short, truncation={strategy!r} would leave nothing of a text")
        if strategy == "longest_first":
            # The shorter text is not cut until both have one length (tokenizers, utils/truncation.rs).
            shorter = min(a, b, room // 2)
            a, b = (shorter, room - shorter) if a <= b else (room - shorter, shorter)
        elif strategy == "only_first":
            a = room - b
        else:
            b = room - a
        return first[:a], None if second is None else second[:b]

    def _row(self, parts):
        """[special tokens, text, special tokens, ...] -> one row of each of `COLUMNS`."""
        places = [(i, id) for i, part in enumerate(parts) for id in part]
        row = (
            [id for _, id in places],
            [self.second_type if i > 2 else 0 for i, _ in places],  # the second text and the token that ends it
            [1 for _ in places],
            [int(i % 2 == 0) for i, _ in places],
        )
        return dict(zip(COLUMNS, row))

    def _padded(self, columns, padding, max_length, pad_to_multiple_of):
        strategy = _choice("padding", padding, PADDING)
        length = max(map(len, columns["input_ids"]), default=0)
        if strategy == "max_length":
            limit = self.model_max_length if max_length is None else max_length
            length = limit if limit < ANY_LENGTH else 0
        step = pad_to_multiple_of or 1
        length = -(-length // step) * step if strategy else 0
        fill = {"input_ids": self.pad_token_id, "special_tokens_mask": 1}
        left = _choice("padding_side", self.padding_side, {"right": False, "left": True})

        def pad(name, row):
            more = [fill.get(name, 0)] * (length - len(row))
            return more + row if left else row + more

        return {name: [pad(name, row) for row in rows] for name, rows in columns.items()}

    # -------------------------------------------------------------------------------- rows and special tokens

    def build_inputs_with_special_tokens(self, token_ids_0, token_ids_1=None):
        """The ids of one text or of two to a row, as the model takes it."""
        return self._row(self._parts(token_ids_0, token_ids_1))["input_ids"]

    def create_token_type_ids_from_sequences(self, token_ids_0, token_ids_1=None):
        """The row's token types: for each token, the number of the text that it belongs to (CLIP's are all 0)."""
        return self._row(self._parts(token_ids_0, token_ids_1))["token_type_ids"]

    def get_special_tokens_mask(self, token_ids_0, token_ids_1=None, already_has_special_tokens=False):
        """For each token of the row, 1 if it is special, else 0; token_ids_0 is a text's ids, or already a row."""
        if already_has_special_tokens:
            return [int(id in self.all_special_ids) for id in token_ids_0]
        return self._row(self._parts(token_ids_0, token_ids_1))["special_tokens_mask"]

    def num_special_tokens_to_add(self, pair=False):
        return len(self.build_inputs_with_special_tokens([], [] if pair else None))

    # ------------------------------------------------------------------------------------------ ids to texts

    def decode(self, token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=None):
        """Ids to a text, a list of rows to a list of texts. Raises InputError for an unknown id.

        `clean_up_tokenization_spaces` is ignored.
        """
        ids = token_ids.tolist() if is_tensor(token_ids) or isinstance(token_ids, np.ndarray) else token_ids
        if isinstance(ids, (list, tuple)) and ids and not isinstance(ids[0], (int, np.integer)):
            return [self.decode(row, skip_special_tokens) for row in ids]
        ids = [ids] if isinstance(ids, (int, np.integer)) else ids
        hidden = self.all_special_ids if skip_special_tokens else []
        return self.tokenizer.decode(id for id in ids if id not in hidden).strip()

    def batch_decode(self, sequences, skip_special_tokens=False, clean_up_tokenization_spaces=None):
        """Rows of ids to a list of texts."""
        texts = self.decode(sequences, skip_special_tokens)
        return [texts] if isinstance(texts, str) else texts

    def convert_tokens_to_ids(self, tokens):
        """A token, or a list of tokens, to ids; an unknown token to the id of `unk_token`."""
        if isinstance(tokens, str):
            return self.tokenizer.encoder.get(tokens, self.unk_token_id)
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids):
        """An id, or a list of ids, to tokens. Raises InputError for an unknown id."""
        if isinstance(ids, (int, np.integer)):
            self.tokenizer.decode([ids])  # raises InputError for an unknown id
            return self.tokenizer.decoder[int(ids)]
        return [self.convert_ids_to_tokens(id) for id in ids]

    def get_vocab(self):
        return dict(self.tokenizer.encoder)

    @property
    def vocab_size(self):
        return len(self.tokenizer)

    def __len__(self):
        return len(self.tokenizer)

    # ------------------------------------------------------------------------------------------------- files

    @classmethod
    def from_pretrained(cls, name, *, cache_dir=None, model_max_length=None, padding_side=None, **options):
        """The tokenizer of a model; `name` as in `miniclip.load`: a directory, a file or a model's name."""
        check_options(cls, options)
        path = hub.find(name, cache_dir)
        if not path.is_dir():
            config, _, tokenizer = checkpoints.load(path)
            tokenizer = tokenizer or cls._default()
            settings = {"model_max_length": config.text and config.text.context_length}
        else:
            tokenizer, file = cls.family.load_tokenizer(path, None), path / "tokenizer_config.json"
            settings = read_json(file) if file.exists() else {}
        if not isinstance(tokenizer, cls.wraps):
            raise InputError(f"{path}: has no vocabulary for a {cls.__name__}")
        if settings.get("truncation_side", "right") != "right":
            raise InputError(f"{path}: truncation_side is {settings['truncation_side']!r}, miniclip only has 'right'")
        length = model_max_length or settings.get("model_max_length") or ANY_LENGTH
        tokenizer = cls(tokenizer=tokenizer, model_max_length=int(length))
        tokenizer.padding_side = padding_side or settings.get("padding_side", "right")
        return tokenizer

    def save_vocabulary(self, save_directory, filename_prefix=None):
        """Write the files of the vocabulary into an existing directory; returns their paths."""
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        return tuple(map(str, self.family.save_vocabulary(Path(save_directory), self.tokenizer, prefix)))

    def save_pretrained(self, directory, **options):
        """Write the files that `from_pretrained` needs, here and in transformers; creates the directory if needed."""
        check_options(type(self), options)
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        return tuple(map(str, self.family.save_tokenizer(directory, self.tokenizer, self.model_max_length)))


# The options of a call: its arguments without the texts.
CALL_OPTIONS = set(inspect.signature(PreTrainedTokenizer.__call__).parameters) - {"self", "text", "text_pair"}


def _without_special(first, second):
    return [[], first, []] if second is None else [[], first, [], second, []]


def _choice(name, value, known):
    value = getattr(value, "value", value)  # transformers' enumerations have their string as `value`
    if value not in known:
        raise InputError(f"{name} is {value!r}, expected one of {', '.join(map(repr, known))}")
    return known[value]


class CLIPTokenizer(PreTrainedTokenizer):
    """transformers' CLIPTokenizer with OpenAI's tokens; `vocab_file` is vocab.json, `merges_file` is merges.txt.

    Without files it has the vocabulary of `tokenizer`, a miniclip.Tokenizer, or else the official one.
    """

    family, wraps = clip_huggingface, Tokenizer
    model_input_names = ("input_ids", "attention_mask")
    second_type = 0

    def __init__(self, vocab_file=None, merges_file=None, *, tokenizer=None, model_max_length=ANY_LENGTH):
        if merges_file is not None:
            tokenizer = Tokenizer.load(merges_file)
        tokenizer = tokenizer or self._default()
        if vocab_file is not None and read_json(vocab_file) != tokenizer.encoder:
            raise InputError(f"{vocab_file}: its ids differ from those of {merges_file or 'the official vocabulary'}")
        super().__init__(tokenizer, model_max_length)

    _default = staticmethod(vocabulary.official_tokenizer)

    def _parts(self, first, second):
        """A row in parts: [special tokens, text, special tokens, ...]."""
        start, end = [self.bos_token_id], [self.eos_token_id]
        return [start, first, end] if second is None else [start, first, end + end, second, end]


class BertTokenizer(PreTrainedTokenizer):
    """transformers' BertTokenizer, for ALIGN. `vocab_file` is vocab.txt; or pass `tokenizer`, a miniclip WordPiece."""

    family, wraps = align_huggingface, WordPiece
    model_input_names = ("input_ids", "token_type_ids", "attention_mask")
    second_type = 1

    def __init__(self, vocab_file=None, *, tokenizer=None, model_max_length=ANY_LENGTH):
        if tokenizer is None and vocab_file is None:
            raise InputError("BertTokenizer has no vocabulary of its own: give vocab_file")
        super().__init__(tokenizer or WordPiece.load(vocab_file), model_max_length)

    @staticmethod
    def _default():
        return None

    def _parts(self, first, second):
        """A row in parts: [special tokens, text, special tokens, ...]."""
        start, end = [self.cls_token_id], [self.sep_token_id]
        return [start, first, end] if second is None else [start, first, end, second, end]


CLIPTokenizerFast, BertTokenizerFast = CLIPTokenizer, BertTokenizer
