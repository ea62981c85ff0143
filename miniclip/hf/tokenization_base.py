"""The base class of `miniclip.hf`'s tokenizers: texts to rows of ids, padded and cut, and back."""

import inspect
import logging
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from miniclip.errors import InputError
from miniclip.families.tokenizer_settings import DECLARED, with_added_tokens, without_added_tokens
from miniclip.hf import padding as pads
from miniclip.hf import truncation as cuts
from miniclip.hf.outputs import as_batch
from miniclip.hf.rows import Encoding, Encodings, Text
from miniclip.hf.text_inputs import choice, id_list, names, samples, size
from miniclip.hf.tokenization_files import TokenizerFiles, model_length
from miniclip.hf.tokenization_ids import Ids
from miniclip.tokenizers.added import WithAddedTokens

LARGE = int(1e20)  # tokens: from here on, a `model_max_length` means that there is no limit
TRUNCATION: dict[Any, str | None] = {
    **{False: None, None: None, "do_not_truncate": None, True: "longest_first"},
    **{name: name for name in ("longest_first", "only_first", "only_second")},
}
TOO_LONG = "sequence-length-is-longer-than-the-specified-maximum"
logger = logging.getLogger("miniclip.hf")


class PreTrainedTokenizer(Ids, TokenizerFiles):
    """The base class of all tokenizers.

    tokenizer         the wrapped tokenizer of miniclip, with its added tokens
    model_max_length  the default `max_length` of `padding="max_length"` and `truncation=True`, in tokens
    padding_side      "right" or "left", which CLIP and ALIGN do not use
    truncation_side   "right" or "left": where texts are cut
    """

    family: ModuleType  # the module of the files
    model_input_names: Sequence[str]
    second_type: int  # the type of the tokens of a second text
    ends: tuple[str, str]  # the roles of the tokens at the start and the end of a row
    separators: int  # how often the end stands between two texts
    is_fast = True
    backend = "miniclip"
    pad_token_type_id = 0

    def __init__(self, tokenizer: Any, **settings: Any):
        if isinstance(tokenizer, WithAddedTokens):
            settings = {DECLARED: tokenizer.added, **settings}
        tokenizer = without_added_tokens(tokenizer)
        if not isinstance(tokenizer, self.kinds):
            raise InputError(f"tokenizer is a {type(tokenizer).__name__}, expected a {self.kinds[0].__name__}")
        self._settings = settings = self._checked_settings(settings)
        self._set_special_tokens(settings)
        self.tokenizer = with_added_tokens(tokenizer, settings)
        self.model_max_length = settings.get("model_max_length")
        for name in ("padding_side", "truncation_side"):
            setattr(self, name, choice(name, settings.get(name, "right"), pads.SIDES))
        self.model_input_names = names("model_input_names", settings.get("model_input_names") or self.model_input_names)
        self.name_or_path = str(settings.get("name_or_path", ""))
        self.verbose = bool(settings.get("verbose", False))
        self.deprecation_warnings: dict[str, bool] = {}
        self._start, self._end = ([] if (id := getattr(self, f"{role}_id")) is None else [id] for role in self.ends)

    padding_side: str
    truncation_side: str

    @property
    def model_max_length(self) -> int:
        return self._model_max_length

    @model_max_length.setter
    def model_max_length(self, value: Any):
        self._model_max_length = model_length(value)

    # ------------------------------------------------------------------------------------------ texts to ids

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        add_special_tokens: bool = True,
        padding: Any = False,
        truncation: Any = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        **options: Any,
    ) -> Encodings:
        """Texts to {"input_ids": ..., "attention_mask": ...}, and "token_type_ids" for BERT: lists, arrays or tensors.

        text, text_pair  a str each, two lists of the same length, or one list of pairs; a pair becomes one row
        padding          True: pad all rows to the longest one; "max_length": to `max_length`
        truncation       True: cut rows to `max_length`, the longer text of a pair first; or "only_first", "only_second"
        max_length       None: the tokenizer's `model_max_length`
        stride           with `return_overflowing_tokens`: what is cut off becomes further rows, and neighbours share
                         so many tokens; "overflow_to_sample_mapping" has the number of each row's text
        is_split_into_words  a text is a list of words

        Further options are pad_to_multiple_of, padding_side, return_tensors ("np", "pt", "tf", or None for lists),
        return_token_type_ids, return_attention_mask, return_special_tokens_mask, return_length, verbose, and
        return_offsets_mapping: "offset_mapping" has the (start, end) of each token's characters in its text.

        Raises InputError for inputs that are not texts, and if rows of different lengths cannot become one array.
        """
        unknown = sorted(options.keys() - ROW_OPTIONS)
        if options.pop("split_special_tokens", False) or unknown:
            raise InputError(f"a call of {type(self).__name__} takes no {', '.join(unknown) or 'split_special_tokens'}")
        rows, is_batch = samples(text, text_pair, is_split_into_words)
        texts = [tuple(Text(self.tokenizer, x) for x in row) for row in rows]
        given = (add_special_tokens, padding, truncation, max_length, stride)
        return self._encoded(texts, is_batch, *given, **options)

    def _encoded(
        self,
        texts,
        is_batch,
        add_special_tokens=True,
        padding=False,
        truncation=None,
        max_length=None,
        stride=0,
        *,
        pad_to_multiple_of=None,
        padding_side=None,
        return_tensors=None,
        return_token_type_ids=None,
        return_attention_mask=None,
        return_overflowing_tokens=False,
        return_special_tokens_mask=False,
        return_offsets_mapping=False,
        return_length=False,
        verbose=True,
    ):
        """The options of a call, applied to [(Text,) or (Text, Text), ...]."""
        if max_length is not None and padding is False and truncation is None:
            truncation = True
        limit, stride = size("max_length", max_length), size("stride", stride) or 0
        strategy, how = choice("truncation", truncation, TRUNCATION), choice("padding", padding, pads.STRATEGIES)
        if limit is None and (how == "max_length" or strategy):
            limit = self.model_max_length
            if limit > LARGE:
                limit, strategy, how = None, None, None if how == "max_length" else how
        if strategy and how and limit is not None and pads.lengthened(limit, pad_to_multiple_of) != limit:
            raise InputError(f"max_length is {limit}, expected a multiple of pad_to_multiple_of, {pad_to_multiple_of}")
        encodings: list[Encoding] = []
        numbers: list[int] = []  # for each encoding, the number of its text
        for number, row in enumerate(texts):
            found = self._rows(row, strategy, limit, stride, add_special_tokens, return_overflowing_tokens)
            encodings += found
            numbers += [number] * len(found)
        if max_length is None and strategy is None and verbose:
            self._warn_of_length(encodings)
        self._pad(encodings, how, limit, pad_to_multiple_of, padding_side)

        def default(wanted, name):
            return name in self.model_input_names if wanted is None else wanted

        columns: dict[str, Any] = {"input_ids": [row.ids for row in encodings]}
        if default(return_token_type_ids, "token_type_ids"):
            columns["token_type_ids"] = [row.type_ids for row in encodings]
        if default(return_attention_mask, "attention_mask"):
            columns["attention_mask"] = [row.attention_mask for row in encodings]
        if return_special_tokens_mask:
            columns["special_tokens_mask"] = [row.special_tokens_mask for row in encodings]
        if return_offsets_mapping:
            columns["offset_mapping"] = [row.offsets for row in encodings]
        if not is_batch and return_tensors is None and not return_overflowing_tokens:
            columns = {name: rows[0] for name, rows in columns.items()}
        if return_length:
            columns["length"] = [len(row) for row in encodings]
        if return_overflowing_tokens:
            columns["overflow_to_sample_mapping"] = numbers
        return Encodings(as_batch(columns, return_tensors), encodings)

    def _rows(self, texts, strategy, limit, stride, add_special_tokens, return_overflowing_tokens):
        """The Encodings of one text or pair: what is kept, then what is cut off if that is wanted."""
        lengths = [len(text.ids) for text in texts]
        if strategy:
            room = limit - (self.num_special_tokens_to_add(len(texts) == 2) if add_special_tokens else 0)
            kept = self._kept(lengths[0], sum(lengths[1:]), room, strategy, limit)
        else:
            kept = (lengths[0], sum(lengths[1:]))
        side = choice("truncation_side", self.truncation_side, pads.SIDES)
        windows = [cuts.windows(length, size, stride, side) for length, size in zip(lengths, kept)]
        return [
            Encoding(self._parts(ranges, add_special_tokens, texts), texts, self.second_type, self.tokenizer.decoder)
            for ranges in cuts.combinations(windows)[: None if return_overflowing_tokens else 1]
        ]

    def _kept(self, first, second, room, strategy, limit):
        """How many tokens of one text, or of two, fit into a row."""
        return cuts.lengths(first, second, room, strategy, limit)

    def _parts(self, ranges, add_special_tokens, texts):
        """A row in parts: [special tokens, range of a text, special tokens, ...]."""
        start, end = (self._start, self._end) if add_special_tokens else ([], [])
        first, *second = ranges
        return [start, first, end * self.separators, *second, end] if second else [start, first, end]

    def _pad(self, encodings, how, limit, multiple, side):
        side = choice("padding_side", side or self.padding_side, pads.SIDES)
        length = pads.lengthened(limit if how == "max_length" else max(map(len, encodings), default=0), multiple)
        if how and any(len(row) < length for row in encodings):
            pads.pad({"input_ids": [row.ids for row in encodings]}, length, side, self.pad_token_id)  # raises
            for row in encodings:
                more = max(length - len(row), 0)
                row.pad(*((more, 0) if side == "left" else (0, more)), self.pad_token_id)

    def _warn_of_length(self, encodings):
        longest = max(map(len, encodings), default=0)
        if 0 < self.model_max_length < longest and not self.deprecation_warnings.get(TOO_LONG):
            self.deprecation_warnings[TOO_LONG] = True
            logger.warning(
                "Token indices sequence length is longer than the specified maximum sequence length for this model "
                f"({longest} > {self.model_max_length}): pass truncation=True"
            )

    def encode(self, text: Any, text_pair: Any = None, add_special_tokens: bool = True, **options: Any) -> Any:
        """The "input_ids" alone, of a text or a list of texts."""
        return self(text, text_pair, add_special_tokens, **options)["input_ids"]

    def encode_plus(
        self, text: Any, text_pair: Any = None, add_special_tokens: bool = True, **options: Any
    ) -> Encodings:
        """The same as a call: its name for one text, until transformers 4."""
        return self(text, text_pair, add_special_tokens, **options)

    def batch_encode_plus(
        self, batch_text_or_text_pairs: Any, add_special_tokens: bool = True, **options: Any
    ) -> Encodings:
        """The same as a call: its name for a list of texts or pairs, until transformers 4."""
        return self(batch_text_or_text_pairs, None, add_special_tokens, **options)

    def tokenize(self, text: Any, pair: Any = None, add_special_tokens: bool = False, **options: Any) -> list[str]:
        """A text's tokens as strings, without special ones: "a cat" -> ["a</w>", "cat</w>"]."""
        return [
            token
            for row in self(text, pair, add_special_tokens, verbose=False, **options).encodings
            for token in row.tokens
        ]

    def pad(
        self,
        encoded_inputs: Any,
        padding: Any = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> Any:
        """Pad rows to one length: {"input_ids": [[...], ...]}, one row of it, or a list of {"input_ids": [...]}.

        Arrays and tensors give arrays and tensors. Raises InputError for rows that are not lists of ids.
        """
        columns, one, kind = pads.columns_of(encoded_inputs)
        if self.model_input_names and return_attention_mask is not False:
            columns.setdefault("attention_mask", [[1] * len(row) for row in columns["input_ids"]])
        how, limit = choice("padding", padding, pads.STRATEGIES), size("max_length", max_length)
        if how == "max_length" and limit is None:
            limit = self.model_max_length if self.model_max_length <= LARGE else None
            how = how if limit is not None else None
        length = limit if how == "max_length" and limit is not None else max(map(len, columns["input_ids"]), default=0)
        if how:
            length = pads.lengthened(length, pad_to_multiple_of)
            columns = pads.pad(columns, length, padding_side or self.padding_side, self.pad_token_id)
        return_tensors = return_tensors or kind
        if one and return_tensors is None:
            columns = {name: rows[0] for name, rows in columns.items()}
        return as_batch(columns, return_tensors)

    # ------------------------------------------------------------------------------------- ids to rows and back

    def prepare_for_model(self, ids: Any, pair_ids: Any = None, **options: Any) -> Encodings:
        """The ids of one text, or of two, as a call would return them; `options` as in a call."""
        given = [id_list("ids", ids), *([] if pair_ids is None else [id_list("pair_ids", pair_ids)])]
        return self._encoded([tuple(map(self._text_of, given))], False, **options)

    def _text_of(self, ids):
        text = Text(self.tokenizer, [])
        text.ids = ids
        text.spans = [(0, 0, 0)] * len(ids)
        return text

    def truncate_sequences(
        self,
        ids: list[int],
        pair_ids: list[int] | None = None,
        num_tokens_to_remove: int = 0,
        truncation_strategy: Any = "longest_first",
        stride: int = 0,
    ) -> tuple[list[int], list[int] | None, list[int]]:
        """The ids of one text, or of two, without `num_tokens_to_remove` of them; and those that overflow."""
        strategy = choice("truncation_strategy", truncation_strategy, TRUNCATION)
        if strategy is None:
            return ids, pair_ids, []
        return cuts.remove(ids, pair_ids, num_tokens_to_remove, strategy, stride, self.truncation_side)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """The ids of one text or of two to a row, as the model takes it."""
        return self.prepare_for_model(token_ids_0, token_ids_1, verbose=False)["input_ids"]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """The row's token types: for each token, the number of the text that it belongs to (CLIP's are all 0)."""
        return self.prepare_for_model(token_ids_0, token_ids_1, verbose=False).encodings[0].type_ids

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """For each token of the row, 1 if it is special, else 0; token_ids_0 is a text's ids, or already a row."""
        if already_has_special_tokens:
            return [int(id in self.all_special_ids) for id in id_list("token_ids_0", token_ids_0)]
        return self.prepare_for_model(token_ids_0, token_ids_1, verbose=False).encodings[0].special_tokens_mask

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return len(self._start) + len(self._end) * (1 + self.separators * bool(pair))

    @property
    def max_len_single_sentence(self) -> int:
        """How many tokens of one text fit into a row."""
        return self.model_max_length - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        """How many tokens of two texts fit into a row."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        size_ = f"vocab_size={self.vocab_size}, length={len(self)}, special_tokens={self.special_tokens_map}"
        return f"{type(self).__name__}(name_or_path={self.name_or_path!r}, {size_})"


def _names(function):
    return set(inspect.signature(function).parameters)


# The options of a call: its arguments without the texts.
ROW_OPTIONS = _names(PreTrainedTokenizer._encoded) - {"self", "texts", "is_batch"} | {"split_special_tokens"}
CALL_OPTIONS = _names(PreTrainedTokenizer.__call__) - {"self", "text", "text_pair", "options"} | ROW_OPTIONS
