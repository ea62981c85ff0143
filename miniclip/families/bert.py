"""Configuration of a BERT that encodes texts; ALIGN's, and those of CLIPs of many languages."""

from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from miniclip.config import check_choice, check_transformer
from miniclip.errors import InputError
from miniclip.towers import bert

POOLS = ("first", "mean")  # the first token, [CLS]; the mean of all tokens
TEXT_LENGTH = 64  # tokens of a text in ALIGN's training
HEADS = ("bias", "linear", "mlp", "norm", "none")


@dataclass(frozen=True)
class BertConfig:
    """BERT: a transformer whose tokens attend in both directions, but not to the padding after a text's end.

    `token_types` is the number of types: BERT gives the two texts of a pair different ones; 0: it has none, as
    DistilBERT. `pooler` is whether the weights have one; no feature depends on it. `first_position` is the row of the
    first token in the table of positions, 0 except in a RoBERTa: there it is `pad_token_id` + 1, padding has the row
    before it, and `context_length` counts the rows from it on. `inner_padding` is whether a padding token within a text
    counts as a token; in OpenCLIP it does not.

    `pool` is what becomes the feature, `head` how: by a projection with or without bias ("bias", "linear"), by an MLP
    without biases whose hidden layer has `hidden_width` numbers (GELU), or "norm", as in AltCLIP: a layer norm and two
    projections, the first with a bias and to `hidden_width`; "none": what was pooled is the feature. A text has
    `longest_text` tokens by default, if so many fit.
    """

    context_length: int
    vocab_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    token_types: int = 2
    pooler: bool = True
    pad_token_id: int = 0
    activation: str = "gelu"
    eps: float = 1e-12
    first_position: int = 0
    pool: str = "first"
    head: str = "bias"
    hidden_width: int | None = None
    longest_text: int = TEXT_LENGTH
    inner_padding: bool = True

    tower: ClassVar[ModuleType] = bert
    causal: ClassVar[bool] = False

    def __post_init__(self):
        check_transformer(self, except_for=("pad_token_id", "token_types", "first_position"))
        if not (type(self.pad_token_id) is int and 0 <= self.pad_token_id < self.vocab_size):
            raise InputError(f"pad_token_id is {self.pad_token_id!r}, expected an id below {self.vocab_size}")
        for name in ("token_types", "first_position"):
            if not (type(getattr(self, name)) is int and 0 <= getattr(self, name) < 1 << 16):
                raise InputError(f"{name} is {getattr(self, name)!r}, expected 0 or a small integer")
        check_choice(self, "inner_padding", (True, False))
        check_choice(self, "pool", POOLS)
        check_choice(self, "head", HEADS)
        if (self.head in ("mlp", "norm")) != (type(self.hidden_width) is int and self.hidden_width > 0):
            raise InputError(f"hidden_width is {self.hidden_width!r}: heads 'mlp' and 'norm' have one, others None")
        if self.head == "norm" and self.pool != "first":
            raise InputError(f"pool is {self.pool!r}: a head 'norm' takes the first token")

    @property
    def text_length(self) -> int:
        """How many tokens a text gets by default."""
        return min(self.longest_text, self.context_length)
