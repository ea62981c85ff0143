"""The encoder on a cluster: Ray Data sends batches of names to workers, and brings their features back in order.

A worker is an actor that loads the model once. Ray starts a dead worker again and repeats the batches that it had, so
that none is lost. This process lists the names and writes the rows, as without Ray.
"""

import contextlib
import logging
import os
import pickle
import re
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from miniclip import encode, identity
from miniclip.errors import InputError
from miniclip.runtime import cpu
from miniclip.runtime.installation import install

MEMORY = 1 << 27  # bytes for the objects of a cluster that is started here: names and features only
TIMEOUT = 10  # seconds, for a cluster to answer
BLOCKS = 10_000  # at most, into which the batches are divided: each is a task of Ray's


class Cluster(NamedTuple):
    """A cluster of Ray, and the workers on it.

    address  of a running cluster, as `ray.init` takes it, such as "auto"; "local": a new one on this machine
    load     a function without arguments that gives a worker (model, preprocess), such as partial(miniclip.load, name)
    workers  how many; None: as many as the cluster has GPUs, or cores if it has none
    gpus     of each worker, also a part of one, such as 0.5; None: 1 if the cluster has any
    """

    address: str
    load: Callable[[], tuple[Any, Any]]
    workers: int | None = None
    gpus: float | None = None


def encoder(function, model, cluster):
    """function(model, preprocess, names, batch=, broken=) -> the same function of the names alone, on the cluster.

    function  `encode.pictures`, or another one that yields (b names, their features (b, E))
    model     the model that the workers are to load: those that load another one raise InputError
    """
    expected = identity.of(model)

    def run(names, *, batch, broken):
        batches = [{"names": pickle.dumps(chunk)} for chunk in encode.chunks(names, batch)]
        if not batches:
            return
        with _connected(cluster.address) as ray:
            has = ray.cluster_resources()
            gpus = min(has.get("GPU", 0), 1) if cluster.gpus is None else cluster.gpus
            workers = cluster.workers or int(has.get("GPU", 0) / gpus if gpus else has["CPU"])
            if not workers:
                raise InputError(f"the cluster has {has.get('GPU', 0):g} GPUs, too few for a worker with {gpus:g}")
            rows = ray.data.from_items(batches, override_num_blocks=min(len(batches), BLOCKS)).map_batches(
                Worker,
                fn_constructor_args=(cluster.load, expected, function),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
                num_cpus=1,
                num_gpus=gpus,
            )
            for row in rows.iter_rows():
                encoded, failed = pickle.loads(row["encoded"])
                if isinstance(encoded, InputError):
                    raise encoded
                for name, error in failed.items():
                    broken(name, error)
                yield from encoded

    return run


class Worker:
    """What runs in an actor: a loaded model, called with one batch of names after the other.

    It returns InputErrors instead of raising them: Ray would try again, and print pages.
    """

    def __init__(self, load, expected, function):
        self.loaded, self.function = _attempt(lambda: _checked(load(), expected)), function

    def __call__(self, rows):
        """{"names": [pickled list]} -> {"encoded": [pickled (what `function` yields for it, {name: error})]}"""
        (names,), failed = map(pickle.loads, rows["names"]), {}

        def encoded():
            return [*self.function(*self.loaded, names, batch=len(names), broken=failed.__setitem__)]

        result = self.loaded if isinstance(self.loaded, InputError) else _attempt(encoded)
        return {"encoded": [pickle.dumps((result, failed))]}


def _attempt(function):
    try:
        return function()
    except InputError as error:
        return error


def _checked(loaded, expected):
    if not identity.same(identity.of(loaded[0]), expected):
        raise InputError("a worker loaded other weights than this machine: copy the same file to all machines")
    return loaded


@contextlib.contextmanager
def _connected(address):
    """Yield ray, connected to the cluster; Ray Data keeps the order of rows meanwhile, and shows no bars of its own."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports its use to its makers
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(f"a cluster needs {error.name}: {install('ray')}") from error
    begun = not ray.is_initialized()
    if begun:
        local = {"num_cpus": cpu.cores(), "object_store_memory": MEMORY, "include_dashboard": False}
        try:
            if host := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):
                socket.create_connection(host.groups(), timeout=TIMEOUT).close()  # Ray would wait for minutes
            ray.init(address, log_to_driver=False, logging_level="ERROR", **(local if address == "local" else {}))
        except Exception as error:  # of this very class if a node takes longer than 30 s to start
            raise InputError(f"no Ray cluster answers at {address}: {error}") from error
    settings = ray.data.DataContext.get_current().copy()
    settings.execution_options.preserve_order, settings.enable_progress_bars = True, False
    logging.getLogger("ray.data").setLevel("ERROR")
    try:
        with ray.data.DataContext.current(settings):
            yield ray
    finally:
        if begun:
            ray.shutdown()
