"""`miniclip doctor`: show what this machine has."""

from miniclip.doctor import report


def add_arguments(command):
    command.set_defaults(command=doctor)


def doctor(options):
    for name, finding in report().items():
        print(f"{name + ':':<13} {finding}")
