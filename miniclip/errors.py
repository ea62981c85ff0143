"""What miniclip raises when it cannot use what it was given."""

HALF = 1_500  # characters


class InputError(ValueError):
    """A file, a name or an argument from outside cannot be used; the message names it and says what to do.

    Messages quote what they are about: of a very long one the middle is left out.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message if len(message) <= 2 * HALF else f"{message[:HALF]} … {message[-HALF:]}")


class WrongAnswer(Exception):
    """A benchmark was given something that computes another result than it should."""
