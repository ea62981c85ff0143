"""What miniclip raises when it cannot use what it was given."""


class InputError(ValueError):
    """A file, a name or an argument from outside cannot be used; the message names it and says what to do."""
