"""Fixtures for tests of the page: the built-in model's answers, a server of the page in a thread, and a Chromium."""

import contextlib
import shutil
import threading
import time

import pytest

import miniclip
from miniclip.play import server
from miniclip.play.answers import Answers

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDE = {"width": 1280, "height": 900}


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


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on the path: apt-get install chromium installs it")
    from playwright import sync_api

    with sync_api.sync_playwright() as library:
        sync_api.expect.set_options(timeout=20_000)
        browser = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # which root cannot have
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, port):
    """A function that opens the page; it makes sure that the page asks no other host, and that nothing goes wrong."""
    with contextlib.ExitStack() as pages:

        def opened(port=port, *, faults=(), **options):
            page = pages.enter_context(contextlib.closing(browser.new_page(**{"viewport": WIDE, **options})))
            page.set_default_timeout(20_000)
            asked, said = [], []
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.goto(f"http://127.0.0.1:{port}/")
            page.get_by_role("radio", name="crescent").wait_for()
            pages.callback(lambda: check(asked, said, port, faults))
            return page

        yield opened


def check(asked, said, port, faults):
    assert asked and [url for url in asked if not url.startswith(f"http://127.0.0.1:{port}/")] == []
    assert [text for text in said if not any(fault in text for fault in faults)] == []
