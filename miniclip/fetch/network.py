"""A server asked for what is at an address: its answer, or why there is none and what can be done about it.

Proxies are those that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name, as urllib reads them. The authorities behind accepted
certificates are the system's, or those in the file that SSL_CERT_FILE, REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names.
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
    "User-Agent": f"Mozilla/5.0 (compatible; miniclip/{__version__})",  # some servers refuse Python's own name
    "Accept-Encoding": "identity",
}


class Failure(Exception):
    """An address does not give what is asked for; the message says why."""


class NoRange(Failure):
    """The server does not give the part of a file that is asked for."""


class Cut(Failure):
    """The connection broke or stalled on the way."""


def check_online(need, urls):
    """InputError that says what the network is needed for, where MINICLIP_OFFLINE=1 forbids to use it."""
    if os.environ.get("MINICLIP_OFFLINE", "0") not in ("", "0"):
        raise InputError(f"{need}, and MINICLIP_OFFLINE=1 forbids to ask {' or '.join(map(shown, urls))}")


def ask(url, headers, explain):
    """The server's answer, open (http.client.HTTPResponse).

    headers go along, Authorization not to another host; explain {HTTP status: what it means here}. Raises Failure, and
    InputError where a file of certificates is named that is none.
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
    """What has come since, at most BLOCK bytes, none at the end. Raises Cut."""
    try:
        return response.read1(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise Cut(_told(error)) from error


def shown(url):
    """An address as messages name it: without credentials, which stand before its host or after a question mark."""
    return re.sub(r"^(\w+://)?[^/]*@", r"\1", url).partition("?")[0]


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects are followed, but not from https to http, and to another host without what was meant for the first."""

    def redirect_request(self, request, response, code, message, headers, target):
        old, new = urlsplit(request.full_url), urlsplit(target)
        if new.scheme not in ("https", old.scheme):
            raise Failure(f"redirects from {old.scheme} to {shown(target)}, which is not followed")
        redirected = super().redirect_request(request, response, code, message, headers, target)
        redirected.remove_header("Proxy-authorization")  # set again where there is the proxy again
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
    """What an HTTP status means."""
    wait = error.headers.get("Retry-After")
    meanings = {
        401: "it may not be fetched without permission",
        403: "it may not be fetched without permission",
        404: "there is no such file",
        407: f"{_proxy(url)} {_WANTS_PASSWORD}",
        429: f"too many requests, try again {f'after {wait} seconds' if wait else 'later'}",
    }
    kinds = {3: "it leads in circles, or to what is neither http nor https", 5: "the server fails, try again later"}
    return meanings.get(error.code) or kinds.get(error.code // 100, "it is refused")


_WANTS_PASSWORD = "wants a name and a password: write it as http://NAME:PASSWORD@HOST:PORT"


def _reason(error, url):
    """Why there is no answer."""
    cause = error.reason if isinstance(getattr(error, "reason", None), Exception) else error  # of a URLError
    proxy = _proxy(url)
    kind, separator, _ = (_proxy_address(url) or "").partition("://")
    if separator and kind.lower() not in ("http", "https"):
        return f"{proxy} speaks {kind}, and only proxies that speak http are known: name one, or unset it"
    if "Tunnel connection failed" in str(cause):
        return f"{proxy} {_WANTS_PASSWORD if ' 407 ' in str(cause) else f'lets nothing through: {cause}'}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({cause.verify_message}); if your network has an authority of its own, "
            f"let SSL_CERT_FILE name its PEM file"
        )
    if proxy and isinstance(cause, (socket.gaierror, ConnectionError, TimeoutError)):
        return f"{proxy} cannot be reached: {_told(cause)}"
    return _told(cause)


def _told(error):
    if isinstance(error, socket.gaierror):
        return f"its host cannot be found, is there a network? ({error.strerror})"
    if isinstance(error, TimeoutError):
        return f"nothing came for {TIMEOUT} seconds"
    if isinstance(error, (http.client.HTTPException, ValueError)):
        return f"no HTTP ({type(error).__name__})"  # its message may be an address with a password in it
    return getattr(error, "strerror", None) or str(error)


def _proxy_address(url):
    """The proxy that is asked for this address, None where there is none."""
    parts = urlsplit(url)
    return None if urllib.request.proxy_bypass(parts.hostname or "") else urllib.request.getproxies().get(parts.scheme)


def _proxy(url):
    """How to speak of it."""
    address, name = _proxy_address(url), f"{urlsplit(url).scheme}_proxy"
    source = next((each for each in (name, name.upper()) if os.environ.get(each)), "the system's settings")
    return f"the proxy {shown(address)} (from {source})" if address else None
