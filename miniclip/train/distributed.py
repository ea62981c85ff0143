"""Many processes, one for each GPU, started by torchrun: each has a share of every batch.

torch.distributed sends, and DistributedDataParallel averages the gradients. What contrastive learning needs beyond that
is here: the loss of a pair depends on the features of all pairs, so they are gathered, with gradients.
"""

import os

import torch
import torch.distributed as dist


def join():
    """Join the processes that torchrun started: (their number, this one's device, None: the CPU)."""
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else None
    if "RANK" not in os.environ:
        return 1, device
    if device:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device else "gloo")
    return dist.get_world_size(), device


def leave():
    """The counterpart of `join`: waits for the others, which may still be sending."""
    if is_started():
        # a thread cleans up after gloo's own barrier, and needs Python: if Python is ending by then, the process aborts
        dist.monitored_barrier() if dist.get_backend() == "gloo" else dist.barrier()
        dist.destroy_process_group()


def is_started():
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized()


def rank():
    return dist.get_rank() if is_started() else 0


def gather(x):
    """The rows of all processes in order of their ranks, (b, E) -> (B, E), differentiable."""
    return _Gather.apply(x) if is_started() else x


def mean(x):
    """The mean over all processes of a tensor, not differentiable."""
    if is_started():
        x = x.detach().clone()
        dist.all_reduce(x)
        x /= dist.get_world_size()
    return x


def same(function):
    """What function() returns in the first process, in all of them."""
    if not is_started():
        return function()
    found = [function() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(found)
    return found[0]


class _Gather(torch.autograd.Function):
    """All processes' losses depend on a row, so its gradient is the sum of what each of them sends back.

    The loss of the whole batch is the mean of the processes' losses, not their sum. DistributedDataParallel divides the
    parameters' gradients by the number of processes, so nothing is divided here.
    """

    @staticmethod
    def forward(ctx, x):
        rows = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, x.contiguous())
        return torch.cat(rows)  # (B, E)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.contiguous().clone()  # (B, E)
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]  # (b, E)
