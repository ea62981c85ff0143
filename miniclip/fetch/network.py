"""Asks a server for an address: returns its answer, or explains why there is none and what to do.

HTTP_PROXY, HTTPS_PROXY and NO_PROXY set the proxies, as urllib reads them. Certificates must be signed by the system's
authorities, or by those in the file that SSL_CERT_FILE, REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names.
"""

import http.client
import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from miniclip._version import __version__
from miniclip.errors import InputError

TIMEOUT = 30  # seconds without a byte
BLOCK = 1 << 18  # bytes read at a time
HEADERS = {
    "User-Agent": f"Mozilla/5.0 (compatible; miniclip/{__version__})",  # some servers refuse Python's default
    "Accept-Encoding": "identity",
}


class Failure(Exception):
    """An address does not return the file; the message says why."""


class NoRange(Failure):
    """The server does not return the requested range of a file."""


class Cut(Failure):
    """The connection broke or stalled before the end."""


def check_online(need, urls):
    """Raise InputError that states the `need` for the network if MINICLIP_OFFLINE=1 forbids it."""
    if os.environ.get("MINICLIP_OFFLINE", "0") not in ("", "0"):
        raise InputError(f"{need}, but MINICLIP_OFFLINE=1 forbids asking {' or '.join(map(without_credentials, urls))}")


def ask(url, headers, explain):
    """The server's answer, open (http.client.HTTPResponse).

    headers are sent along, but Authorization never to another host; explain {HTTP status: its meaning here}. Raises
    Failure, and InputError if an environment variable names a file of certificates that is not one.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise Failure("neither an http nor an https address")
    opener = urllib.request.build_opener(_Redirects, urllib.request.HTTPSHandler(context=_trusted()))
    try:
        return opener.open(urllib.request.Request(url, headers={**HEADERS, **headers}), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:  # it is an open connection too
            if error.code == 416 and "Range" in headers:
                raise NoRange from error
            meaning = explain.get(error.code) or _meaning(error, url)
            raise Failure(f"HTTP {error.code} {' '.join(str(error.reason).split())}: {meaning}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Failure(_reason(error, url)) from error


def next_block(response):
    """The next bytes that have come, at most BLOCK; empty at the end. Raises Cut."""
    try:
        return response.read1(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise Cut(_describe(error)) from error


def without_credentials(url):
    """An address for messages: without what may be secret, before its host or after a question mark."""
    return re.sub(r"^(\w+://)?[^/]*@", r"\1", url).partition("?")[0]


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to http; another host does not get the first one's credentials."""

    def redirect_request(self, request, response, code, message, headers, target):
        old, new = urlsplit(request.full_url), urlsplit(target)
        if new.scheme not in ("https", old.scheme):
            raise Failure(f"redirects from {old.scheme} to {without_credentials(target)}, which is not followed")
        redirected = super().redirect_request(request, response, code, message, headers, target)
        redirected.remove_header("Proxy-authorization")  # urllib sets it again if there is a proxy again
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            redirected.remove_header("Authorization")
        return redirected


def _trusted():
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    name = next((name for name in names if os.environ.get(name)), None)
    if name is None:
        return ssl.create_default_context()
    path = os.environ[name]
    try:
        return ssl.create_default_context(**{"capath" if os.path.isdir(path) else "cafile": path})
    except ssl.SSLError as error:
        raise InputError(f"{name} names {path}, which is not a file of certificates in PEM format") from error
    except OSError as error:
        raise InputError(f"{name} names {path}: {error.strerror}") from error


def _meaning(error, url):
    """The meaning of an HTTP status."""
    wait = error.headers.get("Retry-After")
    meanings = {
        401: "it may not be fetched without permission",
        403: "it may not be fetched without permission",
        404: "there is no such file",
        407: f"{_proxy(url)} {_NEEDS_PASSWORD}",
        429: f"too many requests, try again {f'after {wait} seconds' if wait else 'later'}",
    }
    kinds = {
        3: "it redirects in circles, or to an address that is neither http nor https",
        5: "the server fails, try again later",
    }
    return meanings.get(error.code) or kinds.get(error.code // 100, "it is refused")


_NEEDS_PASSWORD = "needs a name and a password: write it as http://NAME:PASSWORD@HOST:PORT"


def _reason(error, url):
    """The reason why there is no answer."""
    cause = error.reason if isinstance(getattr(error, "reason", None), Exception) else error  # of a URLError
    proxy = _proxy(url)
    kind, separator, _ = (_proxy_address(url) or "").partition("://")
    if separator and kind.lower() not in ("http", "https"):
        return f"{proxy} uses {kind}, but miniclip supports only http proxies: name one, or unset it"
    if "Tunnel connection failed" in str(cause):
        return f"{proxy} {_NEEDS_PASSWORD if ' 407 ' in str(cause) else f'blocks the connection: {cause}'}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({cause.verify_message}); if your network has its own certificate "
            f"authority, set SSL_CERT_FILE to its PEM file"
        )
    if proxy and isinstance(cause, (socket.gaierror, ConnectionError, TimeoutError)):
        return f"{proxy} cannot be reached: {_describe(cause)}"
    return _describe(cause)


def _describe(error):
    if isinstance(error, socket.gaierror):
        return f"its host cannot be found, is there a network? ({error.strerror})"
    if isinstance(error, TimeoutError):
        return f"nothing came for {TIMEOUT} seconds"
    if isinstance(error, (http.client.HTTPException, ValueError)):
        return f"not an HTTP answer ({type(error).__name__})"  # its message may be an address with a password
    return getattr(error, "strerror", None) or str(error)


def _proxy_address(url):
    """The proxy for this address, None if there is none."""
    parts = urlsplit(url)
    return None if urllib.request.proxy_bypass(parts.hostname or "") else urllib.request.getproxies().get(parts.scheme)


def _proxy(url):
    """The proxy for this address as messages name it, None if there is none."""
    address, name = _proxy_address(url), f"{urlsplit(url).scheme}_proxy"
    source = next((each for each in (name, name.upper()) if os.environ.get(each)), "the system's settings")
    return f"the proxy {without_credentials(address)} (from {source})" if address else None
