"""Towers recorded as CUDA graphs: which are recorded, replayed, dropped; on a GPU, that replaying gives the same."""

import contextlib
import threading
import time
import types

import numpy as np
import pytest
import torch

import miniclip
from miniclip.kernels import graphs
from miniclip.kernels.graphs import MOST_GRAPHS, MOST_ROWS, Runner, bucket
from miniclip.kernels.triton_ops import LENGTH_STEP

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


class Tape:
    """A recorder without a GPU: it replays into the same memory as a graph does, and notes what is asked of it."""

    def __init__(self):
        self.recorded, self.replayed, self.waited, self.held = [], 0, 0, False

    def can_record(self, batches):
        return True

    def record(self, function, inputs):
        self.recorded.append(tuple(tuple(x.shape) for x in inputs))
        output = function(*inputs).clone()

        def replay():
            assert self.held
            time.sleep(1e-4)  # for others to come between
            self.replayed += 1
            output.copy_(function(*inputs))

        return replay, output

    def wait(self):
        self.waited += 1

    def acquire(self):
        assert not self.held, "used by two at once"
        self.held = True

    def release(self):
        self.held = False


def scores(images, weights):
    """(B, 3, 4), (B, 4) -> (B, 3): each row by itself."""
    return (images * weights[:, None]).sum(-1)


def batch(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, 4, generator=generator), torch.randn(rows, 4, generator=generator)


def test_buckets_are_few_and_hold_at_most_a_third_of_padding():
    sizes = [bucket(rows) for rows in range(1, 200)]
    assert sorted(set(sizes)) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
    assert all(rows <= size and (size - rows) / size <= 1 / 3 for rows, size in enumerate(sizes, 1))


def test_changing_batch_sizes_give_what_the_function_gives():
    tape = Tape()
    runner = Runner(scores, tape)
    kept = []
    for seed, rows in enumerate([5, 3, 6, 1, 5, 64, 4, 5]):
        kept.append((runner(*batch(rows, seed)), scores(*batch(rows, seed))))
    for ours, expected in kept:  # looked at last: a later batch must not overwrite an earlier result
        assert torch.equal(ours, expected)
    assert [shapes[0][0] for shapes in tape.recorded] == [6, 3, 1, 64, 4]
    assert tape.replayed == 8


def test_what_is_not_recorded_is_called():
    tape = Tape()
    calls = []
    runner = Runner(lambda x, trace=None: calls.append(trace) or x, tape)
    for rows in (0, MOST_ROWS + 1):
        assert runner(torch.ones(rows, 2)).shape == (rows, 2)
    runner(torch.ones(1, 2), trace=print)
    assert calls == [None, None, print] and not tape.recorded
    runner(torch.ones(1, 2), trace=None)
    assert len(tape.recorded) == 1


def test_recordings_are_bounded():
    tape = Tape()
    runner = Runner(lambda x: x + 1, tape)
    for length in range(MOST_GRAPHS):
        runner(torch.ones(1, length))
    assert len(runner.recordings) == MOST_GRAPHS and not tape.waited
    assert torch.equal(runner(torch.ones(1, MOST_GRAPHS)), torch.full((1, MOST_GRAPHS), 2.0))
    assert len(runner.recordings) == 1 and tape.waited == 1  # a recording that runs must not be dropped


def test_a_recorder_warms_up_on_the_stream_that_it_records_on(monkeypatch):
    """The library keeps a workspace for each stream on which it has run: new ones would add up."""
    streams, current = [], [types.SimpleNamespace(name="the caller's", wait_stream=lambda other: None)]

    def new_stream():
        streams.append(types.SimpleNamespace(name=f"new {len(streams)}", wait_stream=lambda other: None))
        return streams[-1]

    @contextlib.contextmanager
    def switch(stream):
        current.append(stream)
        yield
        current.pop()

    fakes = {
        "Stream": new_stream,
        "current_stream": lambda: current[-1],
        "stream": switch,
        "graph": lambda graph, pool, stream, capture_error_mode: switch(stream),
        "CUDAGraph": lambda: types.SimpleNamespace(replay=None),
        "graph_pool_handle": lambda: (0, 1),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    used, recorder = [], graphs.CudaRecorder()
    for _ in range(3):
        recorder.record(lambda: used.append(current[-1].name), [])
    assert used == ["new 0"] * 6


def test_all_sizes_and_lengths_of_texts_can_be_recorded_at_once():
    lengths = {min(77, -(-T // LENGTH_STEP) * LENGTH_STEP) for T in range(1, 78)}
    assert len({bucket(rows) for rows in range(1, MOST_ROWS + 1)}) * len(lengths) <= MOST_GRAPHS


def test_recorded_for_inference_and_replayed_outside():
    runner = Runner(scores, Tape())
    with torch.inference_mode():
        runner(*batch(3))
    assert torch.equal(runner(*batch(3, 1)), scores(*batch(3, 1)))


def test_dtypes_are_recorded_apart():
    runner = Runner(lambda x: x * 2, Tape())
    assert runner(torch.ones(2, 2)).dtype == torch.float32
    assert runner(torch.ones(2, 2, dtype=torch.float16)).dtype == torch.float16
    assert len(runner.recordings) == 2


def test_a_function_that_fails_while_it_is_recorded_leaves_nothing_behind():
    def fails(x):
        raise RuntimeError("no")

    runner = Runner(fails, Tape())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no"):
            runner(torch.ones(1))
    assert not runner.recordings


def test_threads_take_turns():
    runner, wrong = Runner(scores, Tape()), []

    def work(seed):
        for i in range(50):
            inputs = batch(1 + (seed + i) % 7, seed * 100 + i)
            if not torch.equal(runner(*inputs), scores(*inputs)):
                wrong.append((seed, i))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ------------------------------------------------------------------------------------------------ on a GPU


@pytest.fixture(scope="module")
def model():
    return miniclip.load("shapes", backend="triton", dtype="float16")[0]


def pictures(rows, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, 3, 48, 48)).astype(np.float32)


@on_gpu
def test_recorded_towers_give_what_they_give_unrecorded(model):
    for rows in (1, 5, 8, 3, 64, 1, 65):
        images = model.ops.asarray(pictures(rows, rows), dtype="float16")
        expected = model._encode_image.function(images)
        torch.testing.assert_close(model.encode_image(images), expected, rtol=0, atol=2e-2)
    texts = ["a red heart", "a blue circle above a green star", "x", "a small yellow cross"]
    for count in (1, 3, 4):
        one_by_one = torch.cat([model.encode_text(model.tokenize(text)) for text in texts[:count]])
        torch.testing.assert_close(model.encode_text(model.tokenize(texts[:count])), one_by_one, rtol=0, atol=2e-2)
    assert 1 <= len(model._encode_image.recordings) <= 6


@on_gpu
def test_results_survive_later_batches_and_other_streams(model):
    images = [model.ops.asarray(pictures(4, seed), dtype="float16") for seed in range(6)]
    alone = [model._encode_image.function(x) for x in images]
    torch.cuda.synchronize()
    results = []
    for i, x in enumerate(images):
        with torch.cuda.stream(torch.cuda.Stream() if i % 2 else torch.cuda.current_stream()):
            results.append(model.encode_image(x))
    torch.cuda.synchronize()
    for ours, expected in zip(results, alone):
        torch.testing.assert_close(ours, expected, rtol=0, atol=2e-2)


@on_gpu
def test_memory_stops_growing(model):
    def used():
        torch.cuda.synchronize()
        return torch.cuda.memory_reserved()

    for rows in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64):
        model.encode_image(pictures(rows))
    before = used()
    for seed in range(100):
        model.encode_image(pictures(1 + seed % MOST_ROWS, seed))
    assert used() <= before + (64 << 20)


@on_gpu
def test_nothing_is_recorded_inside_somebody_elses_recording(model):
    images = model.ops.asarray(pictures(2), dtype="float16")
    expected = model.encode_image(images)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        features = model.encode_image(images)
    graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(features, expected, rtol=0, atol=2e-2)


def test_a_cuda_recorder_records_cuda_batches_alone():
    assert not graphs.CudaRecorder().can_record([torch.ones(1)])
