"""A batch on NumPy is computed in chunks, one per core: features are the same, except for their last bits."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from checkout import ROOT
from hypothesis import given
from hypothesis import strategies as st

import miniclip
from miniclip import params
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.families.align.model import ALIGN
from miniclip.ops import numpy_ops
from miniclip.runtime import chunks, cpu


@pytest.fixture(params=[1, 2, 3])
def cores(request, monkeypatch):
    monkeypatch.setattr(cpu, "blas_threads", lambda: request.param)
    return request.param


@pytest.fixture(scope="module")
def model():
    return miniclip.load("shapes", backend="numpy")[0]


@pytest.fixture(scope="module")
def invariant():
    return miniclip.load("shapes", backend="numpy", batch_invariant=True)[0]


def pictures(count):
    return np.random.default_rng(0).standard_normal((count, 3, 48, 48)).astype(np.float32)


def texts(count):
    """Tokens (count, 32) of texts that are 3 to 30 tokens long, in random order."""
    rng = np.random.default_rng(1)
    colours = ["red", "blue", "green", "a", "small", "circle"]
    return miniclip.load("shapes", backend="numpy")[0].tokenize(
        [" ".join(rng.choice(colours, rng.integers(1, 28))) for _ in range(count)], truncate=True
    )


# ------------------------------------------------------------------------------------- the same features


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_features_are_those_of_the_whole_batch(model, count, cores, relative_error):
    config, images, tokens = model.config, pictures(count), texts(count)
    whole = config.visual.tower.encode_image(numpy_ops, images, **model.params["visual"], config=config.visual)
    assert relative_error(model.encode_image(images), whole) < 1e-5
    end = tokens.argmax(-1)
    whole = config.text.tower.encode_text(numpy_ops, tokens, end, **model.params["text"], config=config.text)
    assert relative_error(model.encode_text(tokens), whole) < 1e-5


def test_aligns_texts_with_types_are_those_of_the_whole_batch(cores, relative_error):
    text = BertConfig(width=16, layers=2, heads=2, mlp_width=32, vocab_size=50, context_length=12, token_types=2)
    config = ALIGNConfig(visual=None, text=text, embed_dim=8)
    rng = np.random.default_rng(0)
    flat = params.flatten(config.shapes())
    tree = params.unflatten({name: rng.standard_normal(shape).astype(np.float32) for name, shape in flat.items()})
    tokens = rng.integers(1, 50, (9, 12))
    tokens[np.arange(12) >= rng.integers(1, 13, 9)[:, None]] = config.text.pad_token_id
    types = rng.integers(0, 2, (9, 12))
    model = ALIGN(config, tree, numpy_ops)
    features, stages = model.encode_text(tokens, token_types=types), {}
    model.encode_text(tokens, token_types=types, trace=stages.__setitem__)
    assert relative_error(features, stages["features"]) < 1e-5
    assert relative_error(model.encode_text(tokens), features) > 1e-3  # types make a difference


@pytest.mark.parametrize(
    ("count", "cores", "sizes"),
    [(32, 2, [8] * 4), (24, 2, [6] * 4), (33, 2, [6] * 5 + [3]), (5, 2, [3, 2]), (9, 1, [5, 4]), (8, 8, [1] * 8)],
)
def test_pictures_are_shared_evenly(monkeypatch, count, cores, sizes):
    monkeypatch.setattr(cpu, "blas_threads", lambda: cores)
    seen = []
    chunks.in_chunks(lambda x, trace=None: seen.append(len(x)) or x)(np.ones((count, 2)))
    assert sorted(seen) == sorted(sizes)


@pytest.mark.parametrize(
    ("total", "most", "cores", "each"),
    [(32, 8, 2, 8), (33, 8, 2, 6), (850, 400, 2, 233), (130, 400, 1, 143), (1600, 400, 2, 440), (7, 8, 3, 3)],
)
def test_a_share_is_an_even_one_and_for_texts_a_tenth_more(total, most, cores, each):
    assert chunks.share(total, most, cores) == each


def test_features_have_the_same_memory_layout_however_they_were_computed(model, cores):
    for count in (1, 2, 5):
        assert model.encode_image(pictures(count)).flags.c_contiguous
        assert model.encode_text(texts(count)).flags.c_contiguous


def test_a_row_that_fails_is_an_error_and_blas_gets_its_threads_back(two_threads, monkeypatch):
    def function(batch, trace=None):
        if 0 in batch:
            raise ZeroDivisionError
        return 1 / batch

    run = chunks.in_chunks(function)
    with pytest.raises(ZeroDivisionError):
        run(np.arange(40))
    assert cpu._count() == 2
    assert np.array_equal(run(np.arange(1, 40)), 1 / np.arange(1, 40))


# ------------------------------------------------------------------------------------- the sizes of chunks


@given(lengths=st.lists(st.integers(1, 77), min_size=1, max_size=60), cores=st.integers(1, 5), invariant=st.booleans())
def test_chunks_are_of_like_length_and_neither_too_large_nor_too_few(lengths, cores, invariant):
    seen = []

    def function(tokens, end, trace=None):
        seen.append(tokens.shape)
        assert tokens.shape[1] == end.max() + 1  # cut after the last end
        return tokens[np.arange(len(end)), end]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "blas_threads", lambda: cores)
        ends = np.array(lengths) - 1
        tokens = np.arange(len(ends) * 77).reshape(len(ends), 77)[:, : max(lengths)]
        result = chunks.in_chunks(function, invariant)(tokens, ends)
    assert np.array_equal(result, tokens[np.arange(len(ends)), ends])
    assert sum(rows for rows, _ in seen) == len(lengths)
    if invariant:
        assert sorted(seen) == sorted((1, length) for length in lengths)
    elif len(lengths) < max(2, cores):
        assert len(seen) == 1
    else:
        assert all(rows * T <= 1.1 * chunks.TOKENS or rows == 1 for rows, T in seen)
        # One batch, padded to its longest text, is never less work.
        assert sum(rows * T for rows, T in seen) <= len(lengths) * max(lengths)


def test_pictures_are_not_copied(cores):
    batch, bases = np.arange(100.0).reshape(50, 2), []
    chunks.in_chunks(lambda x, trace=None: bases.append(x.base) or x)(batch)
    assert all(base is batch.base or base is batch for base in bases) and 50 / 8 <= len(bases) <= 51


def test_a_trace_sees_the_whole_batch(model, cores):
    stages = {}
    model.encode_image(pictures(20), trace=stages.__setitem__)
    assert len(stages["embeddings"]) == 20


# ------------------------------------------------------------------------------- the same to the last bit


def test_batch_invariant_features_are_the_same_in_any_batch(two_threads, invariant, monkeypatch):
    images, tokens = pictures(13), texts(13)
    order = np.random.default_rng(2).permutation(13)
    results = []
    for cores in (1, 2, 3):
        monkeypatch.setattr(cpu, "blas_threads", lambda cores=cores: cores)
        for encode, batch in ((invariant.encode_image, images), (invariant.encode_text, tokens)):
            whole = encode(batch)
            assert np.array_equal(encode(batch[order]), whole[order])
            assert np.array_equal(np.concatenate([encode(batch[:1]), encode(batch[1:6]), encode(batch[6:])]), whole)
            results.append(whole)
    for i in (0, 1):
        assert all(np.array_equal(results[i], other) for other in results[i::2])


def test_batch_invariant_features_are_right(invariant, model, relative_error):
    assert relative_error(invariant.encode_image(pictures(5)), model.encode_image(pictures(5))) < 1e-5
    assert relative_error(invariant.encode_text(texts(5)), model.encode_text(texts(5))) < 1e-5
    assert invariant.encode_image(pictures(0)).shape == (0, 128)


def test_a_convolutional_tower_is_batch_invariant():
    visual = EfficientNetConfig(image_size=32, resized=40, width_coefficient=0.25, depth_coefficient=0.1)
    config = ALIGNConfig(visual=visual, text=None, embed_dim=visual.width)
    rng = np.random.default_rng(0)
    flat = {
        name: (rng.standard_normal(shape) * np.prod(shape[1:]) ** -0.5).astype(np.float32)
        for name, shape in params.flatten(config.shapes()).items()
    }
    model = ALIGN(config, params.unflatten(flat), numpy_ops, batch_invariant=True)
    images = rng.standard_normal((3, 3, 32, 32)).astype(np.float32)
    whole = model.encode_image(images)
    assert all(np.array_equal(model.encode_image(images[i : i + 1])[0], whole[i]) for i in range(3))


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_other_backends_do_not_offer_it(backend):
    if backend == "jax":
        pytest.importorskip("jax")
    with pytest.raises(miniclip.InputError, match=rf"batch_invariant .* not on {backend}: pass backend='numpy'"):
        miniclip.load("shapes", backend=backend, batch_invariant=True)


# ------------------------------------------------------------------------------------- the threads of BLAS


def test_blas_runs_on_one_thread_in_chunks_and_on_all_otherwise(two_threads):
    seen = []
    run = chunks.in_chunks(lambda x, trace=None: seen.append((threading.get_ident(), cpu._count())) or x)
    run(np.ones(1))
    assert seen == [(threading.get_ident(), 2)]
    seen.clear()
    barrier = threading.Barrier(2)

    def function(x, trace=None):
        barrier.wait(60)
        seen.append((threading.get_ident(), cpu._count()))
        return x

    run = chunks.in_chunks(function)
    run(np.ones(16))  # only two threads together pass the barrier
    assert len(dict(seen)) == 2 and threading.get_ident() in dict(seen) and {count for _, count in seen} == {1}


def test_threads_that_encode_at_a_time_leave_blas_as_it_was(two_threads, model):
    images = pictures(6)
    expected = model.encode_image(images)
    with ThreadPoolExecutor(4) as pool:
        for features in pool.map(lambda _: model.encode_image(images), range(12)):
            np.testing.assert_array_equal(features, expected)


def test_a_thread_may_encode_when_the_main_one_has_ended():
    code = """
import threading, time, numpy, miniclip
from miniclip.runtime import cpu
model, preprocess = miniclip.load("shapes", backend="numpy")
cpu.blas_threads = cpu.cores = lambda: 2

def later():
    threading.main_thread().join()
    print(model.encode_image(preprocess(["weights/example.png"] * 9)).shape)

threading.Thread(target=later).start()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "(9, 128)", done.stderr
