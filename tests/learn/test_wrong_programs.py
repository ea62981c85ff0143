"""Wrong programs that are not in the catalogue of mistakes: the laws must find them too."""

import pytest
from course import EXERCISES, marks

from miniclip.learn import holding, mistakes
from miniclip.learn.catalogue import Mutant

# (exercise, what is wrong, [[pattern, replacement], ...] or another body)
PROGRAMS = [
    ("bpe_train", "a pair is merged at its first place in a word only",
     [["merge(symbols, best)", "(lambda s, i: s[:i] + (s[i] + s[i + 1],) + s[i + 2 :] if i is not None else s)"
       "(symbols, next((i for i, p in enumerate(pairwise(symbols)) if p == best), None))"]]),
    ("bpe_train", "a pair counts once in a word, however often the word has it",
     [["pairwise(symbols)", "set(pairwise(symbols))"]]),
    ("bpe_encode", "words are what is between spaces: punctuation and digits are not cut off",
     [["split(clean(text))",
       "[''.join(BYTE_SYMBOLS[byte] for byte in word.encode()) for word in clean(text).split()]"]]),
    ("bpe_encode", "only <|endoftext|> is recognised", [["word in (START, END)", "word == END"]]),
    ("patch_embed", "pictures have three channels", [["images.shape", "(len(images), 3, *images.shape[2:])"]]),
    ("patch_embed", "at most one row and one column are cut off",
     [["images[:, :, : Gy * P, : Gx * P]",
       "images[:, :, : height - min(height % P, 1), : width - min(width % P, 1)]"]]),
    ("softmax", "the maximum is subtracted only if it is large",
     [["x.max(axis=-1, keepdims=True)", "(x.max(axis=-1, keepdims=True) if x.max() > 50 else 0)"]]),
    ("attention_weights", "its own softmax overflows",
     [["softmax(scores)", "np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)"]]),
    ("causal_mask", "the causal mask is a square of the queries",
     [["np.tri(Tq, Tk, dtype=bool)", "np.tri(Tq, Tq, dtype=bool)"]]),
    ("causal_mask", "the causal mask begins where the last query is at the last key",
     [["np.tri(Tq, Tk, dtype=bool)", "np.tri(Tq, Tk, Tk - Tq, dtype=bool)"]]),
    ("causal_mask", "padding gets -10000 added to its score, not -inf instead of it",
     [["np.where(padding[:, None, None, :], -np.inf, scores)", "scores - 10000 * padding[:, None, None, :]"]]),
    ("attention", "one mask at a time",
     "return attention(q, k, v, causal=causal, lengths=None if causal else lengths)"),
    ("layer_norm", "the variance is the mean of squares less the square of the mean",
     [["np.square(_x).mean(axis=-1, keepdims=True)",
       "np.square(wide).mean(axis=-1, keepdims=True) - np.square(wide.mean(axis=-1, keepdims=True))"]]),
    ("quick_gelu", "the factor is rounded to 1.7", [["0.851 * x", "0.85 * x"]]),
    ("self_attention", "with keep, padding is seen",
     [["keep + 1 if causal else lengths", "keep + 1 if causal else None"]]),
    ("self_attention", "weights are computed for a trace that wants none", [["trace and trace.attentions", "trace"]]),
    ("block", "eps is always 1e-5",
     [["ops.layer_norm(x, **ln_1, eps=config.eps)", "ops.layer_norm(x, **ln_1, eps=1e-5)"],
      ["ops.layer_norm(x, **ln_2, eps=config.eps)", "ops.layer_norm(x, **ln_2, eps=1e-5)"]]),
    ("block", "the activation is always quick-GELU", [["config.activation", "'quick_gelu'"]]),
    ("vit", "with a trace, the feature is the last token's", [["x[:, 0]", "x[:, -1]"]]),
    ("text_pooling", "an eot_token_id of 0 is treated as none", "return end_of_text(tokens, eot_token_id or None)"),
    ("contrastive_loss", "the maximum is subtracted in the caller's array",
     "logits -= logits.max(); return contrastive_loss(logits, ops=ops, label_smoothing=label_smoothing)"),
    ("contrastive_gradient", "the batch is always 4",
     [["(2 * B)", "8"]]),
    ("zero_shot", "no templates are not refused",
     [["_texts('templates', templates)", "list(templates)"]]),
    ("softmax_gradient", "rows sum to zero because their mean is subtracted",
     "dx = dy * y; return dx - dx.mean(axis=-1, keepdims=True)"),
    ("layer_norm_gradient", "eps is always 1e-5", "return layer_norm_gradient(dy, x, weight, eps=1e-5)"),
    ("layer_norm_gradient", "only the first axis has rows", [["tuple(range(x.ndim - 1))", "0"]]),
    ("attention_weights_gradient", "the scale is that of a width of 2", [["q.shape[-1]", "2"]]),
    ("attention_gradient", "one mask at a time",
     "return attention_gradient(dy, q, k, v, causal=causal, lengths=None if causal else lengths, weights=weights)"),
    ("vector_add", "the mask has one lane too many", [["offs < n", "offs <= n"]]),
    ("triton_quick_gelu", "exp of a large number is divided by itself",
     [["tl.sigmoid(1.702 * x)", "(tl.exp(1.702 * x) / (1 + tl.exp(1.702 * x)))"]]),
    ("triton_softmax", "the maximum is never below 0", [["tl.max(x, axis=0)", "tl.maximum(tl.max(x, axis=0), 0.0)"]]),
    ("triton_layer_norm", "the variance is the mean of squares less the square of the mean",
     [["tl.sum(centred * centred, axis=0) / D", "tl.sum(x * x, axis=0) / D - mean * mean"]]),
    ("flash_attention", "the largest score so far begins at 0",
     [["tl.full([BLOCK_M, 1], -float('inf'), tl.float32)", "tl.zeros([BLOCK_M, 1], tl.float32)"]]),
    ("flash_attention", "the scale is 1/4, whatever the width",
     [["_product * scale", "_product * 0.25"]]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("exercise", "what", "wrong"),
    [pytest.param(*p, id=f"{p[0]}-{p[1]}", marks=marks(EXERCISES[p[0]])) for p in PROGRAMS],
)
def test_the_laws_find_it(exercise, what, wrong):
    mutant = Mutant(what, instead=wrong) if isinstance(wrong, str) else Mutant(what, tuple(map(tuple, wrong)))
    verdicts, _ = holding.hold(EXERCISES[exercise], mistakes.function(EXERCISES[exercise], mutant))
    assert [verdict.law for verdict in verdicts if not verdict.passed]


def test_every_exercise_has_one():
    assert {exercise for exercise, *_ in PROGRAMS} == EXERCISES.keys()
