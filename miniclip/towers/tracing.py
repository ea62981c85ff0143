"""Looking inside a tower: `trace(name, value)` is called with every stage. Users write the function, towers call it."""


def untraced(name, value):
    """The `trace` that does nothing."""


def within(part, trace):
    """A `trace` for one part of a model: it puts the part before each name."""

    def see(name, value):
        trace(f"{part}.{name}", value)

    see.attentions = getattr(trace, "attentions", True)  # whether it wants attention weights
    return see
