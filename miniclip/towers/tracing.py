"""Looking inside a tower: users pass a function `trace`, and the tower calls `trace(name, value)` for every stage."""


def checkpointed(ops, function):
    """`function`; if the operations have `checkpoint`, one that computes its inside again when gradients are wanted.

    Only its inputs are kept until then. (Training Deep Nets with Sublinear Memory Cost, Chen et al., 2016.)
    """
    return ops.checkpoint(function) if hasattr(ops, "checkpoint") else function


def untraced(name, value):
    """A `trace` that does nothing."""


def within(part, trace):
    """A `trace` for one part of a model: it calls `trace` with "part." before each name."""

    def see(name, value):
        trace(f"{part}.{name}", value)

    see.attentions = getattr(trace, "attentions", True)  # whether to compute attention weights for it
    return see
