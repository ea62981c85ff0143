"""WiSE-FT: the mean of a model's weights and those of its fine-tuned version.

    θ = (1 - α) θ_0 + α θ_1        (Robust fine-tuning of zero-shot models, eq. 1)

Fine-tuning makes a model better on data like its own, and often worse on other data. The mean keeps most of the gain,
and is often better than both elsewhere.
"""

import numpy as np

from miniclip import params
from miniclip.checkpoints.openai import with_highest_id
from miniclip.errors import InputError


def interpolate(first, second, alpha):
    """Two models, each (config, parameter tree, tokenizer) as `checkpoints.load` returns it -> theirs in between.

    alpha 0 gives the first one's parameters, 1 the second one's, bit for bit. All parameters are interpolated, as in
    the paper's code: `logit_scale`, a logarithm, too. Computed in float32 at least, and stored in the wider of both
    dtypes. The configuration and the tokenizer are the first one's. Raises InputError for another alpha, and for models
    that differ in more than the values of their parameters.
    """
    check_alpha(alpha)
    (config, tree, tokenizer), (other, other_tree, other_tokenizer) = first, second
    _check_same(config, other)
    if tokenizer and other_tokenizer and _words(tokenizer) != _words(other_tokenizer):
        raise InputError("the two models have different vocabularies: their weights cannot be mixed")
    theirs = params.flatten(other_tree)
    flat = {name: _between(x, theirs[name], alpha) for name, x in params.flatten(tree).items()}
    return config, params.unflatten(flat), tokenizer or other_tokenizer


def check_alpha(alpha):
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}, expected 0 (the first model) to 1 (the second one)")


def _between(x, y, alpha):
    dtype = np.result_type(x, y)
    if alpha in (0, 1):  # the formula would lose the sign of -0.0, and spread what is infinite in the other model
        return (y if alpha else x).astype(dtype)
    wide = np.result_type(dtype, np.float32)
    return ((1 - alpha) * x.astype(wide) + alpha * y.astype(wide)).astype(dtype)


def _words(tokenizer):
    return type(tokenizer), list(tokenizer.lines())


def _check_same(config, other):
    ours, theirs = (params.flatten(with_highest_id(each).to_dict()) for each in (config, other))
    lost = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    lost = [f"{name} {ours.get(name)} and {theirs.get(name)}" for name in lost]
    if lost:
        raise InputError(f"the two models differ, and their weights cannot be mixed: {'; '.join(lost[:6])}")
