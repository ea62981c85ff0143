"""Runs the command line as users run it."""

import os
import subprocess
import sys

LABELS = ["--labels", "a blue square", "a red circle", "a green star"]


def miniclip(*arguments, cwd=None, **environment):
    command = [sys.executable, "-m", "miniclip", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment})
