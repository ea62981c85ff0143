"""Every tutorial runs as plain Python, without a screen and without a network, and all its assertions hold."""

import os
import subprocess
import sys
import time

import pytest
from render import HERE, tutorials


@pytest.mark.parametrize("tutorial", tutorials(), ids=lambda tutorial: tutorial.name)
def test_a_tutorial_runs(tutorial, took):
    """It ends without errors or warnings. The limit only stops a script that hangs; the summary shows slow ones."""
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    environment = {**os.environ, **nowhere, "MPLBACKEND": "Agg"}
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", tutorial.path.name],
        capture_output=True, text=True, cwd=HERE, env=environment, timeout=60 + 10 * tutorial.seconds,
    )  # fmt: skip
    took(tutorial, time.monotonic() - begin)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("There is no screen for the pictures.")
