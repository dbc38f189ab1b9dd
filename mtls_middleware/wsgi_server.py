"""Recognises the WSGI server that created an environ, to know whether header names and the peer's address are reliable.

For a server that is not in `KNOWN_SERVERS`, or that is older than the release in its row, both are unreliable.
"""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mtls_middleware.request import TESTING_KEY
from mtls_middleware.sources.known_servers import KNOWN_SERVERS, KnownServer, Release

_BY_KEY = {row.key: row for row in KNOWN_SERVERS if row.key is not None}
_BY_SOFTWARE = {row.software: row for row in KNOWN_SERVERS if row.software is not None and row.input_class is None}
_BY_INPUT = {(row.software, row.input_class): row for row in KNOWN_SERVERS if row.input_class is not None}
# The beginnings of SERVER_SOFTWARE that several servers have. The class of `wsgi.input` distinguishes these servers.
SOFTWARE_OF_INPUT: tuple[str, ...] = tuple(f"{row.software}/" for row in _BY_INPUT.values())
# The keys of which each identifies a server, whatever SERVER_SOFTWARE is.
SERVER_KEYS: frozenset[str] = frozenset((*_BY_KEY, TESTING_KEY))
# All other values of SERVER_PROTOCOL are treated as HTTP/2.
HTTP_1: frozenset[str] = frozenset({"HTTP/1.1", "HTTP/1.0"})

# Matches a product and its release at the beginning of SERVER_SOFTWARE (RFC 9110 10.2.4).
_PRODUCT = re.compile(r"([A-Za-z_-]{1,32})(?:/([^\s/]{1,32}))?(?:\s|\Z)", re.ASCII)
_RELEASE = re.compile(r"\d{1,6}(?:\.\d{1,6}){1,3}", re.ASCII)

_KNOWN = ", ".join(
    row.name + ("" if row.keeps_apart_since is None else f" from {'.'.join(map(str, row.keeps_apart_since[:2]))}")
    for row in KNOWN_SERVERS
    if row.keeps_apart_since is not None and row.input_class is None  # runserver is for development
)
_ADVICE = (
    f"Do one of these: use a server that keeps names apart ({_KNOWN}); or let the proxy write names without hyphens, "
    'as "mtls-middleware proxy-config" does (certificate_header="MtlsClientCert", verify_header="MtlsClientVerify", '
    'shared_secret=("MtlsProxySecret", ...)); or give proxy_deletes_underscores=True if the proxy deletes every field '
    "whose name contains a character other than a letter, a digit or a hyphen. In tests, add "
    "mtls_middleware.testing.TESTING_ENVIRON to the environ. See docs/wsgi-servers.md"
)


# Objects are compared by identity, because they are part of cache keys. There is one object for each server.
@dataclass(frozen=True, slots=True, eq=False)
class ServerTraits:
    """The properties of a server that concern the header names and the peer's address of a request.

    Attributes:
        name: the name of a known server; `""` for an unknown server.
        folding: the reason why a client's header name with an underscore may arrive as a name with a hyphen; `None` if
            this is impossible.
        address_doubt: the reason why `REMOTE_ADDR` may differ from the address of the connection; `None` if this is
            impossible.
    """

    name: str
    folding: str | None = None
    address_doubt: str | None = None


_TESTING = ServerTraits("a test")


def traits_of(environ: Mapping[str, Any], start_response: object = None) -> ServerTraits:
    """Return the traits of the server that created this environ.

    `start_response`: identifies an adapter, and gives access to gunicorn's options. A client cannot set the keys of
    `KNOWN_SERVERS` or `TESTING_KEY`, because the keys of its header fields begin with `HTTP_` (RFC 3875 4.1.18).
    """
    software = environ.get("SERVER_SOFTWARE")
    if not environ.keys().isdisjoint(SERVER_KEYS):
        if environ.get(TESTING_KEY) is True:  # a string could come from an environment variable, so only `True` counts
            return _TESTING
        key = next((key for key in _BY_KEY if key in environ), None)
        if key is not None:
            return _by_key(key, _text(environ[key]), software if isinstance(software, str) else "")
    if not isinstance(software, str) or not software:
        return _unnamed(adapter_of(environ, start_response))
    if software.startswith(SOFTWARE_OF_INPUT):
        kind = type(environ.get("wsgi.input"))
        row = _BY_INPUT.get((software.partition("/")[0], f"{kind.__module__}.{kind.__qualname__}"))
        if row is not None:
            return _of(row, None, software, False)
    http2 = environ.get("SERVER_PROTOCOL", "HTTP/1.1") not in HTTP_1
    return traits_of_software(software, http2, settings_of(getattr(start_response, "__self__", None)))


def settings_of(server: object) -> Hashable:
    """Return gunicorn's settings, or `None` for another server. `server`: the object that has `start_response`.

    If another WSGI middleware has wrapped `start_response`, only `mtls-middleware doctor` can check the settings.
    """
    settings: Hashable = getattr(server, "cfg", None)
    try:
        hash(settings)
    except TypeError:  # gunicorn's settings are hashable
        return None
    return settings


def field_lines(start_response: object) -> list[tuple[str, str]] | None:
    """Return the names and values of the request's field lines, which only gunicorn shows; `None` for other servers.

    gunicorn's `start_response` is a method of an object that has the request. The result is `None` if another WSGI
    middleware has wrapped `start_response`.
    """
    response = getattr(start_response, "__self__", None)
    if type(response).__module__ != "gunicorn.http.wsgi":
        return None
    lines = getattr(getattr(response, "req", None), "headers", None)
    return lines if isinstance(lines, list) else None


def adapter_of(environ: Mapping[str, Any], start_response: object) -> str:
    """Return the package that probably created this environ, for example `"a2wsgi"`, or `""` if it is unknown.

    The package is derived from the types of the objects in the environ.
    """
    modules = (
        getattr(start_response, "__module__", None),
        *(type(environ.get(key)).__module__ for key in ("wsgi.input", "wsgi.errors")),
    )
    packages = (str(module).partition(".")[0] for module in modules if module)
    return next((package for package in packages if package not in _NO_ADAPTERS), "")


# Packages that do not identify a server, because any server may use their objects. `mtls_middleware` is one of them,
# because it wraps `start_response`.
_NO_ADAPTERS = frozenset({"None", "builtins", "_io", "io", "tempfile", "functools", "mtls_middleware"})


@lru_cache(maxsize=64)
def traits_of_software(software: str, http2: bool, settings: Hashable) -> ServerTraits:
    """Return the traits of a server that only `SERVER_SOFTWARE` identifies. `settings`: see `settings_of`."""
    match = _PRODUCT.match(software)
    row = _BY_SOFTWARE.get(match[1]) if match is not None else None
    if match is None or row is None:
        return _unknown(f"The server {software[:100]!a}")
    traits = _of(row, release_of(match[2] or ""), software, http2)
    return traits if traits.folding is not None or row.options is None else _with_options(traits, row.options, settings)


@lru_cache(maxsize=64)
def _by_key(key: str, value: str, software: str) -> ServerTraits:
    row = _BY_KEY[key]
    # Show SERVER_SOFTWARE in messages if it names the server, for example "CherryPy/18.10.0 Cheroot/11.1.2 Server".
    return _of(row, release_of(value), software if row.name.lower() in software.lower() else row.name, False)


@lru_cache(maxsize=64)
def _unnamed(adapter: str) -> ServerTraits:
    name = f"The server or adapter {adapter!a}" if adapter else "This server or adapter"
    return _unknown(f"{name}, which sets no SERVER_SOFTWARE,")


def _of(row: KnownServer, release: Release | None, software: str, http2: bool) -> ServerTraits:
    """Return the traits of the release `release` of a known server."""
    since = row.http2_since if http2 and row.http2_since is not None else row.keeps_apart_since
    doubt = None if row.address_is_transports else _address_doubt(row.name, "may be set from a header field")
    if since is None:
        return ServerTraits(
            row.name, folding=_folding(f"The server {software[:100]!a} folds header names"), address_doubt=doubt
        )
    if row.has_release and (release is None or _padded(release) < _padded(since)):
        lowest = ".".join(map(str, since))
        return _unknown(
            f"The server {software[:100]!a} (known from {lowest} on{' for HTTP/2' if http2 else ''})", row.name
        )
    return ServerTraits(row.name, address_doubt=doubt)


def _unknown(who: str, name: str = "") -> ServerTraits:
    return ServerTraits(
        name="",
        folding=_folding(f"{who} is not known to keep header names apart"),
        address_doubt=_address_doubt(name or who, "may be set from a header field such as X-Forwarded-For"),
    )


def _folding(finding: str) -> str:
    return (
        f"{finding}: a client's X_SSL_Client_Cert can arrive as the proxy's X-SSL-Client-Cert, so a header source "
        f"that reads names with hyphens rejects every request. {_ADVICE}"
    )


def _address_doubt(who: str, why: str) -> str:
    return (
        f"{who}: the peer's address {why}, so trusted_proxies= is not reliable: give shared_secret= without "
        "trusted_proxies=, or run the ASGI middleware outside the adapter"
    )


def _with_options(traits: ServerTraits, options: Mapping[str, frozenset[str]], settings: object) -> ServerTraits:
    """Return `traits`, changed to "folds header names" if one of the server's options turns the protection off."""
    for option, harmless in options.items():
        value = getattr(settings, option, None)
        values = {value} if isinstance(value, str) else set(value) if isinstance(value, (list, tuple)) else set()
        if undoing := sorted(str(each) for each in values - harmless):
            finding = f"{traits.name} with {option} = {', '.join(undoing)} folds header names"
            return ServerTraits(traits.name, folding=_folding(finding), address_doubt=traits.address_doubt)
    return traits


def release_of(text: str) -> Release | None:
    """Parse a release of two to four numbers with dots. Returns `None` for any other format, such as a pre-release."""
    return tuple(map(int, text.split("."))) if _RELEASE.fullmatch(text) else None


def _padded(release: Release) -> Release:
    return (*release, 0, 0)[:4]


def _text(value: object) -> str:
    """Return a server's release as a string. mod_wsgi gives the release as a tuple of numbers."""
    if isinstance(value, tuple):
        return ".".join(map(str, value))
    return value if isinstance(value, str) else ""
