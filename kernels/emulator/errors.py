"""What the emulator raises."""

from miniclip.errors import InputError


class EmulatorError(InputError):
    """A kernel did what it must not, or what the emulator does not know; the message names the instruction."""


class Unknown(EmulatorError):
    """A kernel has what the emulator does not know."""

    may_be_right = True
