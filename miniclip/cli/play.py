"""`miniclip play`: a page in the browser to draw pictures, type labels, and see what a model answers and why."""

import contextlib
import os

from miniclip.cli.arguments import add_model, check_texts, is_built_in, load, natural, prefer_numpy
from miniclip.cli.progress import say


def add_arguments(command):
    command.set_defaults(command=play)
    command.add_argument("--host", default="127.0.0.1", help="the address to serve at (default: 127.0.0.1)")
    command.add_argument("--port", type=natural, default=8765, metavar="N", help="0: any free one (default: 8765)")
    command.add_argument("--open", action="store_true", help="open the page in the browser")
    add_model(command)


def play(options):
    from miniclip.play import server
    from miniclip.play.answers import Answers

    prefer_numpy(options)
    model, preprocess = load(options)
    check_texts(model, options.model)
    name = os.path.basename(options.model.rstrip("/")) if os.path.exists(options.model) else options.model
    answers = Answers(model, preprocess, name, built_in=is_built_in(options))
    if not server.is_loopback(options.host):
        say(
            f"anyone who reaches this machine at {options.host} can use the page. There is no password, and pictures "
            f"are sent unencrypted. Without --host, only this machine can use it"
        )

    def opened(address):
        print(f"{address}  (Ctrl-C ends it)", flush=True)
        if options.open:
            import webbrowser

            webbrowser.open(address)

    with contextlib.suppress(KeyboardInterrupt):  # the usual end
        server.serve(answers, options.host, options.port, opened=opened)
