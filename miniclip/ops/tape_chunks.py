"""A tower on a tape, on all cores: chunks of the batch go through it, forward and backward, each with its own tape.

Builds on `runtime.chunks`, which cuts the batch for the forward function too, and on `tape`. Rows of a batch do not
depend on each other, so that a feature's gradient goes back through its own chunk alone. A parameter is used in all
chunks: its gradient is the sum of theirs.
"""

import math

from miniclip import params
from miniclip.ops.tape import Variable, value
from miniclip.runtime import chunks, cpu

PER_CORE = 2  # chunks: with fewer, one core may wait for another; each has gradients of all parameters, to be added up


def in_chunks(function, parameters):
    """function(batch, *end, **parameters, trace=, ...) -> the same without the parameters: (B, E), as one Variable.

    The parameters may have constants among them. A batch that is a Variable, to get gradients of pixels, is one chunk.
    """
    flat = params.flatten(parameters)
    learned = {name: x for name, x in flat.items() if isinstance(x, Variable)}

    def run(batch, *end, trace=None, **options):
        cores = cpu.blas_threads()
        if trace is not None or not learned or len(batch) < max(2, cores) or isinstance(batch, Variable):
            return function(batch, *end, **parameters, trace=trace, **options)
        total = int(chunks.lengths_of(batch, *end).sum())
        most = chunks.share(total, math.ceil(total / (cores * PER_CORE)), cores)
        pieces = chunks.pieces(batch, *end, most=most, **options)

        def forward(piece):
            """One chunk's features, and the parameters that its tape begins with: Variables of its own."""
            own = {name: Variable(x.value) for name, x in learned.items()}
            return function(*piece.batch, **piece.options, **params.unflatten(flat | own)), own

        def backward(job):
            (features, own), dy = job
            features.backward(dy)
            return [own[name].gradient for name in learned]

        def send(dy):
            jobs = [(tape, dy[piece.rows]) for tape, piece in zip(tapes, pieces)]
            gradients = cpu.on_own_cores(backward, jobs, cores)
            return cpu.on_own_cores(_total, zip(*gradients), cores)  # over the chunks

        tapes = cpu.on_own_cores(forward, pieces, cores)
        features = chunks.joined(pieces, [value(features) for features, _ in tapes])  # (B, E)
        return Variable(features, list(learned.values()), send)

    return run


def _total(parts):
    """The sum of a parameter's gradients; None if no chunk used it."""
    return None if parts[0] is None else sum(parts[1:], parts[0])
