"""CUDA graphs: a tower recorded once for each size of batch, and then played back with a single launch.

A forward pass of ViT-B/32 launches some 90 kernels. Launching takes the CPU some 10 µs each, whatever the batch, so
that a small batch waits for launches and not for arithmetic. A recording has none: the same kernels on the same memory,
started by the GPU itself (CUDA C++ Programming Guide, "CUDA Graphs").

The same memory is the catch, and what this file is about: a batch is copied to where the recording reads, padded to the
next size that there is a recording of, and the result is copied out before the next batch can overwrite it.
"""

import threading

import torch

MOST_ROWS = 64  # of a batch that is recorded: what larger ones compute hides most of their launches
MOST_GRAPHS = 64  # kept for each function: as many as texts have sizes and lengths


def bucket(rows):
    """The size that a batch is padded to, 1, 2, 3, 4, 6, 8, 12, 16, 24, ...: few, and at most a third is padding."""
    power = 1 << (rows - 1).bit_length()
    return power * 3 // 4 if power >= 4 and rows <= power * 3 // 4 else power


class Runner:
    """A function of batches, (B, ...) each -> (B, ...), recorded for small batches on a GPU.

    Each row of its result must depend on the same row of the batches alone, and on nothing that changes between calls
    but them. Results belong to the caller. Recordings share one pool of memory for what they compute; when there are
    more than MOST_GRAPHS, all are dropped. Calls from several threads and on several streams take turns.
    """

    def __init__(self, function, recorder=None):
        self.function = function
        self.recorder = recorder or CudaRecorder()
        self.recordings = {}  # shapes, dtypes and devices: (static inputs, replay, static output)
        self.lock = threading.Lock()

    def __call__(self, *batches, **options):
        """function(*batches, **options); where an option is given, a trace for one, it is called and not replayed."""
        options = {name: value for name, value in options.items() if value is not None}
        rows = len(batches[0])
        with torch.cuda.device_of(batches[0]):  # where Triton launches
            if options or not 1 <= rows <= MOST_ROWS or not self.recorder.can_record(batches):
                return self.function(*batches, **options)
            with self.lock:
                return self._replay(batches, rows)

    def _replay(self, batches, rows):
        key = tuple((bucket(rows), *x.shape[1:], x.dtype, x.device) for x in batches)
        if key not in self.recordings:
            if len(self.recordings) == MOST_GRAPHS:
                # All, and not the oldest: the library's workspace belongs to all that were recorded on one stream.
                self.recordings.clear()
            with torch.inference_mode(False), torch.no_grad():  # inference tensors could not be written to outside
                # Zeros are pixels, tokens and positions that any function can take: what a row holds before its use.
                inputs = [x.new_zeros(bucket(rows), *x.shape[1:]) for x in batches]
                self.recordings[key] = (inputs, *self.recorder.record(self.function, inputs))
        inputs, replay, output = self.recordings[key]
        self.recorder.acquire()
        for static, x in zip(inputs, batches):
            static[:rows].copy_(x)
        replay()
        result = output[:rows].clone()
        self.recorder.release()
        return result


class CudaRecorder:
    """Records with torch.cuda.CUDAGraph; `acquire` and `release` enclose every use of the recordings' memory."""

    one_at_a_time = threading.Lock()  # in a process

    def __init__(self):
        self.pool = None
        self.stream = None  # of its own: the library keeps one workspace a stream, and torch one stream for all devices
        self.released = None  # the event behind the last use

    def can_record(self, batches):
        return all(x.is_cuda for x in batches) and not torch.cuda.is_current_stream_capturing()

    def record(self, function, inputs):
        """-> (replay(), its output). On the current device, which is that of the inputs."""
        self.acquire()
        if self.stream is None:
            self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        warm_up, current = torch.cuda.Stream(), torch.cuda.current_stream()
        warm_up.wait_stream(current)
        with torch.cuda.stream(warm_up):
            function(
                *inputs
            )  # once for real: kernels are compiled, the library chooses its own, neither can be recorded
        current.wait_stream(warm_up)
        graph = torch.cuda.CUDAGraph()
        # A capture that fails leaves its stream as the current one: the outer context takes that back. And while this
        # thread records, others may allocate.
        with (
            self.one_at_a_time,
            torch.cuda.stream(current),
            torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"),
        ):
            output = function(*inputs)
        return graph.replay, output

    def acquire(self):
        if self.released is not None:
            torch.cuda.current_stream().wait_event(self.released)

    def release(self):
        self.released = torch.cuda.Event()
        self.released.record()
