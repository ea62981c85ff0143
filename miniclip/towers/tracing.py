"""Looking inside a tower: users pass a function `trace`, and the tower calls `trace(name, value)` for every stage."""


def untraced(name, value):
    """A `trace` that does nothing."""


def within(part, trace):
    """A `trace` for one part of a model: it calls `trace` with "part." before each name."""

    def see(name, value):
        trace(f"{part}.{name}", value)

    see.attentions = getattr(trace, "attentions", True)  # whether to compute attention weights for it
    return see
