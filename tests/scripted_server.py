"""A server that answers as its script says, for the tests of downloads.

`server.script[path]` is a list of answers; the last one is repeated.
"""

import contextlib
import dataclasses
import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from miniclip.fetch.download import Expected

CONTENT = bytes(range(256)) * 4000  # 1 MB: read in several pieces
OTHER = CONTENT[::-1]
N = len(CONTENT)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def expected(content=CONTENT):
    return Expected(len(content), sha256(content))


def files_in(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())


@dataclasses.dataclass
class Answer:
    """How a server sends a file: correctly, or with errors."""

    content: bytes = CONTENT
    ranges: bool = True
    cut: int | None = None  # close the connection after this many bytes
    stall: int | None = None  # send nothing more after this many bytes
    status: int | None = None
    headers: dict = dataclasses.field(default_factory=dict)  # added to the usual ones; a value of None removes one
    trickle: int = 1 << 16  # bytes at a time

    def give(self, handler):
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        end = len(self.content)
        status = self.status or (416 if start >= end > 0 else 206 if start else 200)
        headers = {"Content-Length": end - start}
        if start:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{end}"
        handler.send_response(status)
        for name, value in {**headers, **self.headers}.items():
            if value is not None:
                handler.send_header(name, value)
        handler.end_headers()
        stop = min(each for each in (start + (self.cut or end), start + (self.stall or end), end) if each is not None)
        stop = start if 0 in (self.cut, self.stall) else stop
        for position in range(start, stop, self.trickle):
            handler.wfile.write(self.content[position : min(stop, position + self.trickle)])
        if self.stall is not None:
            handler.server.ended.wait(20)


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.0: a connection ends after one answer."""

    def do_GET(self):
        server, path = self.server, self.path.partition("?")[0]
        with server.lock:
            server.asked.append((path, self.headers.get("Range"), self.headers.get("Authorization")))
            server.headers = self.headers
            script = server.script.get(path, [b"HTTP/1.0 404 Not Found\r\n\r\n"])
            answer = script.pop(0) if len(script) > 1 else script[0]
        with contextlib.suppress(ConnectionError):  # the client may close the connection before the end
            self.wfile.write(answer) if isinstance(answer, bytes) else getattr(answer, "give", answer)(self)

    def do_CONNECT(self):
        self.server.tunnel(self)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """The server; `asked` is a list of its requests: (path, Range, Authorization)."""

    def __init__(self, context=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.asked, self.lock, self.ended = {}, [], threading.Lock(), threading.Event()
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.server_port}"
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def __exit__(self, *_):
        self.ended.set()
        self.shutdown()
        self.thread.join()
        self.server_close()

    @property
    def ranges(self):
        return [asked for _, asked, _ in self.asked]


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]
