"""Which WSGI server or adapter made an environ, and what follows from that for header names and the peer's address.

A server that is not in `KNOWN_SERVERS`, or older than its row, is not trusted with either.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mtls_middleware.request import TESTING_KEY
from mtls_middleware.sources.known_servers import KNOWN_SERVERS, KnownServer, Release

_BY_KEY = {row.key: row for row in KNOWN_SERVERS if row.key is not None}
_BY_SOFTWARE = {row.software: row for row in KNOWN_SERVERS if row.software is not None}
_MARKS = (*_BY_KEY, TESTING_KEY)
_HTTP_1 = frozenset({"HTTP/1.1", "HTTP/1.0"})

# A product and its release at the beginning of SERVER_SOFTWARE (RFC 9110 10.2.4).
_PRODUCT = re.compile(r"([A-Za-z_-]{1,32})(?:/([^\s/]{1,32}))?(?:\s|\Z)", re.ASCII)
_RELEASE = re.compile(r"\d{1,6}(?:\.\d{1,6}){1,3}", re.ASCII)

_KNOWN = ", ".join(
    row.name + ("" if row.keeps_apart_since is None else f" from {'.'.join(map(str, row.keeps_apart_since[:2]))}")
    for row in KNOWN_SERVERS
    if row.keeps_apart_since is not None
)
_ADVICE = (
    f"Do one of these: use a server that keeps names apart ({_KNOWN}); or have the proxy write names without hyphens, "
    'as "mtls-middleware proxy-config" does (certificate_header="MtlsClientCert", verify_header="MtlsClientVerify", '
    'shared_secret=("MtlsProxySecret", ...)); or give proxy_deletes_underscores=True if the proxy deletes every name '
    "that has an underscore or another odd character. In tests, add mtls_middleware.testing.TESTING_ENVIRON to the "
    "environ. See docs/wsgi-servers.md"
)


# Compared by identity: there is one for each server, and it is part of the key under which peers are cached.
@dataclass(frozen=True, slots=True, eq=False)
class ServerTraits:
    """What a server does to a request before this package sees it.

    Attributes:
        name: of the known server, `""` for an unknown one.
        folding: why a name with a hyphen may be a client's name with an underscore; `None` if names are kept apart.
        address_doubt: why `REMOTE_ADDR` may be another address than the connection's; `None` if it is not.
    """

    name: str
    folding: str | None = None
    address_doubt: str | None = None


_TESTING = ServerTraits("a test")


def traits_of(environ: Mapping[str, Any], start_response: object = None) -> ServerTraits:
    """The traits of the server that made this environ; `start_response` shows gunicorn's options, and adapters' names.

    The keys in `KNOWN_SERVERS` and `TESTING_KEY` come from the server or the operator: every key that a client
    chooses begins with `HTTP_` (RFC 3875 4.1.18).
    """
    software = environ.get("SERVER_SOFTWARE")
    if not environ.keys().isdisjoint(_MARKS):
        if environ.get(TESTING_KEY) is True:  # a string would come from the process's environment
            return _TESTING
        key = next((key for key in _BY_KEY if key in environ), None)
        if key is not None:
            return _by_key(key, _text(environ[key]), software if isinstance(software, str) else "")
    if not isinstance(software, str) or not software:
        return _unnamed(adapter_of(environ, start_response))
    http2 = environ.get("SERVER_PROTOCOL", "HTTP/1.1") not in _HTTP_1
    # gunicorn's `start_response` is a method of an object that holds the settings. Another WSGI middleware around this
    # one may wrap it, and then only `mtls-middleware doctor` sees the settings.
    settings = getattr(getattr(start_response, "__self__", None), "cfg", None)
    try:
        return _by_software(software, http2, settings)
    except TypeError:  # not gunicorn's: it cannot be hashed
        return _by_software(software, http2, None)


def adapter_of(environ: Mapping[str, Any], start_response: object) -> str:
    """The package that made this environ, as well as its objects show: `"a2wsgi"`."""
    found = (
        getattr(start_response, "__module__", None),
        *(type(environ.get(key)).__module__ for key in ("wsgi.input", "wsgi.errors")),
    )
    packages = (str(module).partition(".")[0] for module in found if module)
    return next((package for package in packages if package not in _NO_ADAPTERS), "")


# Modules whose objects any server may put into an environ, and this package, whose layers wrap `start_response`.
_NO_ADAPTERS = frozenset({"None", "builtins", "_io", "io", "tempfile", "functools", "mtls_middleware"})


@lru_cache(maxsize=64)
def _by_software(software: str, http2: bool, settings: object) -> ServerTraits:
    match = _PRODUCT.match(software)
    row = _BY_SOFTWARE.get(match[1]) if match is not None else None
    if match is None or row is None:
        return _unknown(f"The server {software[:100]!a}")
    traits = _of(row, release_of(match[2] or ""), software, http2)
    return traits if traits.folding is not None or row.options is None else _with_options(traits, row.options, settings)


@lru_cache(maxsize=64)
def _by_key(key: str, value: str, software: str) -> ServerTraits:
    row = _BY_KEY[key]
    # With its release where SERVER_SOFTWARE carries it: "CherryPy/18.10.0 Cheroot/11.1.2 Server".
    return _of(row, release_of(value), software if row.name.lower() in software.lower() else row.name, False)


@lru_cache(maxsize=64)
def _unnamed(adapter: str) -> ServerTraits:
    name = f"The server or adapter {adapter!a}" if adapter else "This server or adapter"
    return _unknown(f"{name}, which sets no SERVER_SOFTWARE,")


def _of(row: KnownServer, release: Release | None, software: str, http2: bool) -> ServerTraits:
    """What the row says of this release."""
    since = row.http2_since if http2 and row.http2_since is not None else row.keeps_apart_since
    doubt = None if row.address_is_transports else _address_doubt(row.name, "may be one that a header field wrote")
    if since is None:
        return ServerTraits(
            row.name, folding=_folding(f"The server {software[:100]!a} folds header names"), address_doubt=doubt
        )
    if row.has_release and (release is None or _padded(release) < _padded(since)):
        wanted = ".".join(map(str, since))
        return _unknown(
            f"The server {software[:100]!a} (known from {wanted} on{' for HTTP/2' if http2 else ''})", row.name
        )
    return ServerTraits(row.name, address_doubt=doubt)


def _unknown(who: str, name: str = "") -> ServerTraits:
    return ServerTraits(
        name="",
        folding=_folding(f"{who} is not known to keep header names apart"),
        address_doubt=_address_doubt(name or who, "may be one that a header field such as X-Forwarded-For wrote"),
    )


def _folding(finding: str) -> str:
    return (
        f"{finding}: a client's X_SSL_Client_Cert can arrive as the proxy's X-SSL-Client-Cert, so a header source "
        f"that reads names with hyphens rejects every request. {_ADVICE}"
    )


def _address_doubt(who: str, why: str) -> str:
    return (
        f"{who}: the peer's address {why}, so trusted_proxies= does not hold there: give shared_secret= without "
        "trusted_proxies=, or run the ASGI middleware outside the adapter"
    )


def _with_options(traits: ServerTraits, options: Mapping[str, frozenset[str]], settings: object) -> ServerTraits:
    """These traits, or those of a server that folds names, if one of its options says so."""
    for option, harmless in options.items():
        value = getattr(settings, option, None)
        values = {value} if isinstance(value, str) else set(value) if isinstance(value, (list, tuple)) else set()
        if undoing := sorted(str(each) for each in values - harmless):
            finding = f"{traits.name} with {option} = {', '.join(undoing)} folds header names"
            return ServerTraits(traits.name, folding=_folding(finding), address_doubt=traits.address_doubt)
    return traits


def release_of(text: str) -> Release | None:
    """Two to four numbers, joined by dots; `None` for anything else, such as a pre-release."""
    return tuple(map(int, text.split("."))) if _RELEASE.fullmatch(text) else None


def _padded(release: Release) -> Release:
    return (*release, 0, 0)[:4]


def _text(value: object) -> str:
    """A server's release as a string: mod_wsgi gives a tuple of numbers."""
    if isinstance(value, tuple):
        return ".".join(map(str, value))
    return value if isinstance(value, str) else ""
