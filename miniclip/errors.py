"""InputError, which miniclip raises for files and arguments that it cannot use."""

HALF = 1_500  # characters kept at each end of a long message


class InputError(ValueError):
    """A file, a name or an argument cannot be used; the message names it and says what to do.

    Messages quote their input, so a message can be very long: then its middle is left out.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message if len(message) <= 2 * HALF else f"{message[:HALF]} … {message[-HALF:]}")


class WrongAnswer(Exception):
    """A function that is measured computes a wrong result."""
