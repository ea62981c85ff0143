"""The built-in model's answers, and a server of the page in a thread."""

import contextlib
import threading
import time

import pytest

import miniclip
from miniclip.play import server
from miniclip.play.answers import Answers


@pytest.fixture(scope="session")
def answers():
    return Answers(*miniclip.load("shapes", backend="numpy"), built_in=True)


@contextlib.contextmanager
def serving(answers):
    """Inside, a server answers at the port that this yields, as `miniclip play` serves."""
    with server.listen("127.0.0.1", 0) as listening:
        running = server.server(server.application(answers))
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()
        try:
            while not running.started:
                time.sleep(0.01)
            yield listening.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def port(answers):
    with serving(answers) as port:
        yield port


@pytest.fixture(scope="session")
def served():
    """`serving`, for other answers than those of the built-in model."""
    return serving
