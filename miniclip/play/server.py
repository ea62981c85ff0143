"""The page's server: it sends the files in `static` and what `answers` returns, to this machine alone by default.

Starlette does the web's part, uvicorn the network's. A request cannot name a file: the page's own are read when the
server starts. Needs the extra `play`.
"""

import contextlib
import ipaddress
import socket
from pathlib import Path

from miniclip.errors import InputError
from miniclip.play.answers import BYTES, EXAMPLE
from miniclip.runtime.installation import install

try:
    import python_multipart  # noqa: F401  (Starlette reads forms with it)
    import uvicorn
    from anyio import Semaphore, to_thread
    from starlette.applications import Starlette
    from starlette.datastructures import Headers, MutableHeaders
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise InputError(f"the page needs starlette, uvicorn and python-multipart: {install('play')}") from error

STATIC = Path(__file__).parent / "static"
SCRIPTS = ("play.js", "page.js", "draw.js", "answer.js", "why.js")
FILES = {  # address: (file, type)
    "/": (STATIC / "index.html", "text/html"),
    "/play.css": (STATIC / "play.css", "text/css"),
    **{f"/{name}": (STATIC / name, "text/javascript") for name in SCRIPTS},
    "/example.png": (EXAMPLE, "image/png"),
}
LOCAL = ["127.0.0.1", "localhost", "[::1]"]  # names of this machine
BODY = BYTES + 100_000  # the most bytes of a request: a picture and labels
COMPUTING = 1  # requests at a time, on all cores. The caches of `Answers` need it: with more, two compute the same
WAITING = 16  # requests that are read, wait or compute

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def application(answers, hosts=LOCAL):
    """The page about one model's `Answers`, as an ASGI application. `hosts`: names under which it may be asked."""
    files = {address: Response(path.read_bytes(), media_type=kind) for address, (path, kind) in FILES.items()}
    about = JSONResponse(answers.about())
    queue = _Queue()

    async def file(request):
        return files[request.url.path]

    async def answer(request):
        return await queue(request, answers.answer)

    async def explanation(request):
        return await queue(request, lambda picture, labels: answers.explanation(picture, " ".join(labels)))

    async def describe(request):
        return about

    return Starlette(
        routes=[
            *(Route(address, file) for address in FILES),
            Route("/about", describe),
            Route("/answer", answer, methods=["POST"]),
            Route("/explanation", explanation, methods=["POST"]),
        ],
        middleware=[Middleware(_Guarded), Middleware(_Named, hosts)],
        exception_handlers={
            InputError: lambda request, error: JSONResponse({"error": str(error)}, 400),
            HTTPException: lambda request, error: JSONResponse({"error": error.detail}, error.status_code),
        },
    )


async def _form(request):
    """(the picture's bytes, the labels, one on each line) of a request. Nothing else in it is read."""
    async with request.form(max_files=1, max_fields=1) as form:
        picture, labels = form.get("picture"), form.get("labels")
        if not hasattr(picture, "read") or not isinstance(labels, str):
            raise HTTPException(400, "a request has a file named picture, and a text named labels")
        return await picture.read(), [line.strip() for line in labels.splitlines() if line.strip()]


class _Queue:
    """Computes in a thread, one request after the other; meanwhile the server can answer others."""

    def __init__(self):
        self.turns, self.waiting = Semaphore(COMPUTING), 0

    async def __call__(self, request, function):
        """The response with function(picture, labels)."""
        if self.waiting >= WAITING:  # the request's body is not read: it may be large
            raise HTTPException(503, "too many requests are waiting: try again")
        self.waiting += 1
        try:
            form = await _form(request)
            async with self.turns:
                if await request.is_disconnected():
                    return Response(status_code=499)  # nobody reads it
                return JSONResponse(await to_thread.run_sync(function, *form))
        finally:
            self.waiting -= 1


class _Guarded:
    """Adds HEADERS to every response, refuses requests of other sites' pages, and bodies beyond BODY."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        headers, size = Headers(scope=scope), 0

        async def counted():
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > BODY:
                raise HTTPException(413, f"the picture is too large: this page takes {BYTES:,} bytes")
            return message

        async def guarded(message):
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        origin = headers.get("origin", f"{scope['scheme']}://{headers.get('host')}")
        if origin != f"{scope['scheme']}://{headers.get('host')}" or headers.get("sec-fetch-site") == "cross-site":
            await JSONResponse({"error": "this page answers only itself"}, 403)(scope, counted, guarded)
        else:
            await self.app(scope, counted, guarded)


class _Named:
    """Refuses requests under other names than `hosts` and the address that the request has reached.

    A page of another host, whose name leads here (DNS rebinding), asks under that name: it gets nothing.
    """

    def __init__(self, app, hosts):
        self.app, self.hosts = app, hosts

    async def __call__(self, scope, receive, send):
        reached = _in_address(scope["server"][0].partition("%")[0])  # "fe80::1%eth0": no browser sends the %eth0
        allowed = TrustedHostMiddleware(self.app, allowed_hosts=[*self.hosts, reached], www_redirect=False)
        await allowed(scope, receive, send)


# ------------------------------------------------------------------------------------------------ the network


def serve(answers, host="127.0.0.1", port=8765, *, opened=print):
    """Serve the page until Ctrl-C. `opened(address)` is called once it can be visited.

    Raises InputError if there is no such host, or if the port is used.
    """
    with listen(host, port) as listening:
        opened(f"http://{_in_address(_visited(host))}:{listening.getsockname()[1]}/")
        server(application(answers, names(host))).run([listening])


def listen(host, port):
    """A socket that listens there; port 0: at any free port. Raises InputError if that cannot be."""
    if port >= 1 << 16:
        raise InputError(f"the port is {port}, expected 0 to 65535: choose another --port")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(f"the page cannot be at {host}, port {port}: {error}; choose another --port") from error


def server(application):
    """A uvicorn server: no access log, no headers of proxies, no more than 64 connections."""
    settings = {
        **{"log_level": "warning", "access_log": False, "server_header": False, "proxy_headers": False},
        **{"http": "h11", "ws": "none", "loop": "asyncio", "lifespan": "off"},
        **{"limit_concurrency": 64, "timeout_graceful_shutdown": 2},
    }
    return uvicorn.Server(uvicorn.Config(application, **settings))


def names(host):
    """Names under which the page may be asked: those of this machine, and `host`.

    If `host` is all addresses, 0.0.0.0 or ::, also the name that this machine has in a network.
    """
    return [*LOCAL, _in_address(host), *([socket.gethostname()] if _is_all(host) else [])]


def _visited(host):
    """The host to visit. If it is all addresses: this machine's in its network, or without a network its own."""
    if not _is_all(host):
        return host
    family, own, other = (
        (socket.AF_INET6, "::1", "2001:db8::1") if ":" in host else (socket.AF_INET, "127.0.0.1", "192.0.2.1")
    )
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.connect((other, 9))  # an address of no machine; this chooses the way there, and sends nothing
        return sender.getsockname()[0]
    return own


def is_loopback(host):
    """Whether `host` is reached from this machine alone."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _in_address(host):
    """A host as it is written in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def _is_all(host):
    return _is_address(host) and ipaddress.ip_address(host).is_unspecified


def _is_address(host):
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False
