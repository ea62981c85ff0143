"""The same rows on a Ray cluster on this machine, in the same order, also if workers are killed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
from PIL import Image

import miniclip
from miniclip import InputError, embed
from miniclip.embed import on_ray

ray = pytest.importorskip("ray")
# Ray leaves files and sockets to the garbage collector; JAX, if another test has used it, warns of Ray's new processes
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:os.fork:RuntimeWarning"
)
N = 90


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(N):
        Image.fromarray(rng.integers(0, 256, (6, 9, 3), np.uint8)).save(folder / f"{i:03}.png")
    (folder / "040.png").write_bytes(b"no picture")
    return [str(folder / f"{i:03}.png") for i in range(N)]


def test_the_command_on_ray_resumes_with_the_same_rows(tmp_path, photos):
    """Rows that are there were written without Ray."""
    plain, resumed = tmp_path / "plain", tmp_path / "resumed"
    model, preprocess = miniclip.load("shapes", "numpy")
    for folder, some in ((plain, photos), (resumed, photos[:8])):
        embed.pictures(folder, model, preprocess, some, name="shapes", batch=8)
    command = ["embed", os.path.dirname(photos[0]), "-o", resumed, "--batch", 8, "--ray", "local", "--workers", 2]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": ""}
    done = subprocess.run(
        [sys.executable, "-m", "miniclip", *map(str, command)], capture_output=True, text=True, env=environment
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("miniclip: ")]
    said = [line for line in said if not line.endswith(" left")]  # on a slow machine it says how far it is
    assert done.returncode == 1 and done.stdout == ""
    assert said[0] == f"miniclip: {N - 8} of {N} pictures are left to embed"
    assert said[1].startswith(f"miniclip: {photos[40]}: cannot be read as a picture")
    assert said[2].startswith(f"miniclip: {N - 9} pictures embedded, {resumed} has {N - 1}; 1 could not be read")
    assert same(embed.read(resumed), embed.read(plain))
    assert (resumed / "_failed.jsonl").read_text() == (plain / "_failed.jsonl").read_text()


def same(a, b):
    """Batches of other sizes change the last bit of some features."""
    return a.metadata == b.metadata and a.names == b.names and np.abs(a.features - b.features).max() < 1e-3


@pytest.fixture(scope="module")
def cluster():
    """A cluster that this process has joined; Ray's workers find this file's functions by value."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    for attempt in (1, 2, 3):  # on a busy machine a node may take longer to start than Ray waits, 30 s
        with contextlib.suppress(Exception) if attempt < 3 else contextlib.nullcontext():
            ray.init("local", num_cpus=2, object_store_memory=1 << 27, include_dashboard=False, log_to_driver=False)
            break
        ray.shutdown()
    yield partial(embed.Cluster, "local")
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def slow(folder):
    """The built-in model, slowed; the worker's process writes its number into a folder."""
    model, preprocess = miniclip.load("shapes", "numpy")
    encode = model.encode_image
    model.encode_image = lambda x: time.sleep(0.3) or encode(x)
    (folder / str(os.getpid())).touch()
    return model, preprocess


def uneven():
    """The built-in model; a worker's first batch takes two seconds, and the others none."""
    model, preprocess = miniclip.load("shapes", "numpy")
    encode, times = model.encode_image, iter([2])

    def slow_at_first(x):
        time.sleep(next(times, 0))
        return encode(x)

    model.encode_image = slow_at_first
    return model, preprocess


def other_weights():
    model, preprocess = miniclip.load("shapes", "numpy")
    model.params["logit_scale"] = model.params["logit_scale"] * 1.01
    return model, preprocess


def no_model():
    return miniclip.load("/no/such.safetensors")


def no_numbers():
    model, preprocess = miniclip.load("shapes", "numpy")
    encode = model.encode_image
    model.encode_image = lambda x: encode(x) * np.float32("nan")
    return model, preprocess


def test_a_killed_worker_loses_no_row(tmp_path, photos, cluster):
    model, preprocess = miniclip.load("shapes", "numpy")
    pids, killed = tmp_path / "pids", []
    pids.mkdir()

    def kill_one():
        while not (started := [*pids.iterdir()]):
            time.sleep(0.1)
        time.sleep(0.5)  # it is at its second batch
        os.kill(int(started[0].name), signal.SIGKILL)
        killed.append(int(started[0].name))

    thread = threading.Thread(target=kill_one, daemon=True)
    thread.start()
    ray_workers = cluster(partial(slow, pids), workers=1)
    done = embed.pictures(tmp_path / "i", model, preprocess, photos, name="shapes", batch=8, ray=ray_workers)
    thread.join(timeout=1)
    assert done == (N - 1, N - 1, 1)
    assert len(killed) == 1 and len([*pids.iterdir()]) == 2  # another process continued
    embed.pictures(tmp_path / "plain", model, preprocess, photos, name="shapes", batch=8)
    assert same(embed.read(tmp_path / "i"), embed.read(tmp_path / "plain"))


def test_rows_are_in_order_though_later_batches_are_ready_first(tmp_path, photos, cluster):
    model, preprocess = miniclip.load("shapes", "numpy")
    embed.pictures(tmp_path / "i", model, preprocess, photos, name="shapes", batch=8, ray=cluster(uneven, workers=2))
    assert embed.read(tmp_path / "i").names == [path for path in photos if not path.endswith("040.png")]


def test_texts_on_ray(tmp_path, cluster):
    model, _ = miniclip.load("shapes", "numpy")
    texts = [f"a {colour} {shape}" for colour in ("red", "blue") for shape in ("circle", "star", "heart")] * 3
    here = cluster(partial(miniclip.load, "shapes", "numpy"), workers=1)
    embed.texts(tmp_path / "i", model, texts, name="shapes", batch=4, ray=here)
    embed.texts(tmp_path / "plain", model, texts, name="shapes", batch=4)
    assert same(embed.read(tmp_path / "i"), embed.read(tmp_path / "plain"))


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (other_weights, "a worker loaded other weights than this machine"),
        (no_model, r"/no/such.safetensors: no such file"),
        (no_numbers, "features are not numbers"),
    ],
)
def test_an_error_of_a_worker_is_one_line(tmp_path, photos, cluster, load, message):
    model, preprocess = miniclip.load("shapes", "numpy")
    with pytest.raises(InputError, match=message):
        embed.pictures(tmp_path / "i", model, preprocess, photos[:9], name="shapes", ray=cluster(load, workers=1))


def test_more_gpus_than_there_are_is_an_error(tmp_path, photos, cluster):
    model, preprocess = miniclip.load("shapes", "numpy")
    if ray.cluster_resources().get("GPU"):
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="the cluster has 0 GPUs, too few for a worker with 1"):
        embed.pictures(tmp_path / "i", model, preprocess, photos, name="shapes", ray=cluster(no_model, gpus=1))


def test_a_cluster_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    with (
        pytest.raises(InputError, match=f"no Ray cluster answers at 127.0.0.1:{port}"),
        on_ray._connected(f"127.0.0.1:{port}"),
    ):
        pass
