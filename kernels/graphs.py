"""CUDA graphs: a tower is recorded once for each size of batch, and then replayed with a single launch.

A forward pass of ViT-B/32 launches some 90 kernels. Each launch takes the CPU some 10 µs, whatever the batch, so that a
small batch waits for launches and not for arithmetic. A recording needs one launch: the GPU itself starts the same
kernels on the same memory (CUDA C++ Programming Guide, "CUDA Graphs").

The same memory is the difficulty, and what this file is about. A batch is padded to the next size that has a recording
and copied to where the recording reads; the result is copied out before the next batch can overwrite it.
"""

import threading

import torch

from miniclip.kernels.device import no_autocast
from miniclip.kernels.operators import differentiating

MOST_ROWS = 64  # of a batch that is recorded: computing a larger one mostly takes longer than launching it
MOST_GRAPHS = 64  # kept for each function: as many as texts have sizes and lengths


def bucket(rows):
    """The size that a batch is padded to: 1, 2, 3, 4, 6, 8, 12, 16, 24, ... Few sizes; at most a third is padding."""
    power = 1 << (rows - 1).bit_length()
    return power * 3 // 4 if power >= 4 and rows <= power * 3 // 4 else power


class Runner:
    """Calls a function of batches, (B, ...) each -> (B, ...), as a recording if the batches are small and on a GPU.

    A recording has no gradients: where one is wanted, of a batch or of a parameter, the function itself is called. Each
    row of the result must depend only on the same row of the batches, and nothing else may change between calls.
    Results belong to the caller, and torch.autocast changes none. Recordings share one pool of memory for what they
    compute; when there are more than MOST_GRAPHS, all are dropped. Calls from several threads and on several streams
    take turns.
    """

    def __init__(self, function, recorder=None, parameters=()):
        self.function = function
        self.parameters = parameters  # the tensors that it reads beside batches
        self.recorder = recorder or CudaRecorder()
        self.recordings = {}  # shapes, dtypes and devices: (static inputs, replay, static output)
        self.lock = threading.Lock()

    def __call__(self, *batches, **options):
        """function(*batches, **options). With an option, such as a trace, the function is called and not replayed."""
        options = {name: value for name, value in options.items() if value is not None}
        if torch.compiler.is_compiling():  # torch records the function itself
            with no_autocast(batches[0]):
                return self.function(*batches, **options)
        rows = len(batches[0])
        with torch.cuda.device_of(batches[0]), no_autocast(batches[0]):  # where Triton launches
            if options or not 1 <= rows <= MOST_ROWS or differentiating((*batches, *self.parameters)):
                return self.function(*batches, **options)
            if not self.recorder.can_record(batches):
                return self.function(*batches, **options)
            with self.lock:
                return self._replay(batches, rows)

    def _replay(self, batches, rows):
        key = tuple((bucket(rows), *x.shape[1:], x.dtype, x.device) for x in batches)
        if key not in self.recordings:
            if len(self.recordings) == MOST_GRAPHS:
                # All, not only the oldest: recordings of one stream share the library's workspace. None may still run.
                self.recorder.wait()
                self.recordings.clear()
            with torch.inference_mode(False), torch.no_grad():  # inference tensors could not be written to outside
                # Rows that are not used yet hold zeros: any function can take these as pixels, tokens and positions.
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
    """Records with torch.cuda.CUDAGraph. Every use of the recordings' memory is between `acquire` and `release`."""

    one_at_a_time = threading.Lock()  # a process records one graph at a time

    def __init__(self):
        self.pool = None
        self.stream = None  # its own: the library keeps a workspace for each stream, torch one stream for all devices
        self.released = None  # the event after the last use

    def can_record(self, batches):
        return all(x.is_cuda for x in batches) and not torch.cuda.is_current_stream_capturing()

    def record(self, function, inputs):
        """Record a call on the current device, which must be the inputs': -> (replay(), its output)."""
        self.acquire()
        if self.stream is None:
            self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            # Once without recording: kernels are compiled and the library chooses its own, which cannot be recorded.
            # On the same stream, since the library keeps 32 MB of workspace for each stream for ever.
            function(*inputs)
        current.wait_stream(self.stream)
        graph = torch.cuda.CUDAGraph()
        # A capture that fails leaves its stream as the current one: the outer context restores ours. "thread_local":
        # other threads may allocate memory while this one records.
        with (
            self.one_at_a_time,
            torch.cuda.stream(current),
            torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"),
        ):
            output = function(*inputs)
        return graph.replay, output

    def wait(self):
        """Wait until the GPU has finished every recording."""
        torch.cuda.synchronize()

    def acquire(self):
        if self.released is not None:
            torch.cuda.current_stream().wait_event(self.released)

    def release(self):
        self.released = torch.cuda.Event()
        self.released.record()
