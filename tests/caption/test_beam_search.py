"""Beam search: equal to trying everything if it keeps everything, and to transformers' `generate`."""

import itertools

import numpy as np
import pytest
import torch
import transformers
from clipcaps import gpt2

from miniclip.caption import beam_search
from miniclip.caption.decoder import logits
from miniclip.ops import numpy_ops, torch_ops
from miniclip.params import tree_map

END = 2


def random_step(seed, vocabulary):
    """The log probability of a next token depends on all tokens before it, and on nothing else."""
    calls = []

    def step(tokens):  # (b, t) -> (b, V)
        calls.append(tokens.shape)
        rows = [np.random.default_rng([seed, *row]).normal(0, 2, vocabulary) for row in tokens.tolist()]
        return numpy_ops.log_softmax(np.array(rows))

    return step, calls


def everything(step, start, vocabulary, length):
    """Every sequence that ends, or has `length` tokens, with its log probability."""
    others = [token for token in range(vocabulary) if token != END]
    for t in range(1, length + 1):
        lasts = [END] if t < length else range(vocabulary)
        for tokens in itertools.product(*[others] * (t - 1), lasts):
            row = np.array([[*start, *tokens]])
            scores = [step(row[:, : len(start) + i])[0, token] for i, token in enumerate(tokens)]
            yield list(tokens), float(np.sum(scores))


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -1.0])
@pytest.mark.parametrize(("vocabulary", "length"), [(3, 4), (5, 3)])
def test_with_enough_beams_it_finds_the_best_of_all_sequences(vocabulary, length, length_penalty):
    step, _ = random_step(vocabulary, vocabulary)
    start, beams = [1, 0], vocabulary**length
    found = beam_search(step, start, END, beams, length, length_penalty=length_penalty)
    all_of_them = [*everything(step, start, vocabulary, length)]
    best = sorted(all_of_them, key=lambda one: -one[1] / len(one[0]) ** length_penalty)
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in best]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in best])


def test_one_beam_is_the_most_probable_token_again_and_again():
    for seed in range(20):
        step, calls = random_step(seed, 10)
        tokens = []
        while (not tokens or tokens[-1] != END) and len(tokens) < 20:
            tokens.append(int(step(np.array([tokens], int)).argmax()))
        calls.clear()
        assert [found for found, _ in beam_search(step, (), END, 1, 20)] == [tokens]
        assert calls == [(1, t) for t in range(len(tokens))]  # it stops there


@pytest.mark.parametrize("beams", [1, 2, 5, 40])
def test_few_beams_find_sequences_with_their_probabilities(beams):
    for seed in range(5):
        step, _ = random_step(seed, 4)
        truth = {tuple(tokens): score for tokens, score in everything(step, [1], 4, 4)}
        found = beam_search(step, [1], END, beams, 4, length_penalty=0.0)
        assert 1 <= len({tuple(tokens) for tokens, _ in found}) == len(found) <= beams
        scores = [score for _, score in found]
        assert scores == sorted(scores, reverse=True)
        np.testing.assert_allclose(scores, [truth[tuple(tokens)] for tokens, _ in found])
        assert scores[0] <= max(truth.values()) + 1e-9


PREFIX, LENGTH = 3, 12


@pytest.fixture(scope="module", params=[0, 13, 25])  # whose beams depend on all settings
def official(request):
    """A GPT-2 of transformers with random weights that ends some sequences, and a prefix for it."""
    torch.manual_seed(request.param)
    end = {"bos_token_id": None, "eos_token_id": END, "pad_token_id": END}
    config = transformers.GPT2Config(vocab_size=12, n_positions=24, n_embd=64, n_layer=2, n_head=1, **end)
    config.initializer_range = 0.15
    return transformers.GPT2LMHeadModel(config).eval(), torch.randn(1, PREFIX, 64)


@pytest.mark.parametrize("ops", [numpy_ops, torch_ops], ids=lambda ops: ops.NAME)
@pytest.mark.parametrize("beams", [2, 5])
def test_beams_are_those_of_transformers(official, ops, beams):
    model, prefix = official
    config, tree = gpt2(model)
    tree, ours = tree_map(ops.asarray, tree), ops.asarray(prefix.numpy())

    def step(tokens):
        tokens = ops.asarray(tokens, dtype="int64")
        return ops.to_numpy(ops.log_softmax(logits(ops, ours, tokens, **tree, config=config)))

    different = set()
    for length_penalty, early_stopping in itertools.product([0.0, 1.0, 2.0, -1.0], [False, True, "never"]):
        how = {"length_penalty": length_penalty, "early_stopping": early_stopping}
        theirs = model.generate(
            inputs_embeds=prefix, attention_mask=torch.ones(1, PREFIX), max_new_tokens=LENGTH, num_beams=beams,
            num_return_sequences=beams, do_sample=False, output_scores=True, return_dict_in_generate=True, **how,
        )  # fmt: skip
        found = beam_search(step, (), END, beams, LENGTH, **how)
        rows = [row[: row.index(END) + 1] if END in row else row for row in theirs.sequences.tolist()]
        assert [tokens for tokens, _ in found] == rows
        ranks = [score / len(tokens) ** length_penalty for tokens, score in found]
        np.testing.assert_allclose(ranks, theirs.sequences_scores, rtol=1e-4)
        different.add(str(rows))
    assert len(different) > 1  # so the settings do matter
    greedy = model.generate(
        inputs_embeds=prefix, attention_mask=torch.ones(1, PREFIX), max_new_tokens=LENGTH, do_sample=False
    )
    assert [tokens for tokens, _ in beam_search(step, (), END, 1, LENGTH)] == greedy.tolist()


def test_tokens_that_are_given_are_continued(official):
    model, _ = official
    config, tree = gpt2(model)
    start = [5, 1, 7]
    theirs = model.generate(torch.tensor([start]), num_beams=4, do_sample=False, max_new_tokens=8)[0].tolist()

    def step(tokens):
        nothing = np.zeros((1, 0, config.width), np.float32)  # a prefix without tokens
        return numpy_ops.log_softmax(logits(numpy_ops, nothing, tokens, **tree, config=config))

    row = [*start, *beam_search(step, start, END, 4, 8)[0][0]]
    assert row == theirs[: len(row)]
