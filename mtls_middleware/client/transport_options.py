"""`TransportOptions`: the arguments of both transports, which are checked at construction."""

from importlib.util import find_spec
from typing import Any

import httpx2

from mtls_middleware.certificate_files import (
    CertificateFiles,
    CertificateKeyPair,
    Roots,
    check_certificate_files,
    trust_context,
)
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.options import boolean

Proxy = str | httpx2.URL | httpx2.Proxy | None


class TransportOptions:
    """The arguments of `CertificateTransport`. Raises `ConfigurationError`; its messages contain no password."""

    def __init__(
        self,
        certificate: CertificateFiles,
        roots: Roots,
        proxy: Proxy,
        http2: bool,
        limits: httpx2.Limits | None,
    ) -> None:
        check_certificate_files(certificate)
        trust_context(roots)
        if boolean("http2", http2) and find_spec("h2") is None:
            raise ConfigurationError("http2=True needs an optional dependency: pip install 'httpx2[http2]'")
        self._roots = roots
        self._others: dict[str, Any] = {"trust_env": False, "http2": http2, "proxy": _proxy(proxy)}
        if limits is not None:
            self._others["limits"] = _limits(limits)

    def arguments(self, pair: CertificateKeyPair) -> dict[str, Any]:
        """Return the arguments of a transport of httpx2 that presents the certificate of `pair`."""
        return {"verify": pair.ssl_context(self._roots), **self._others}


def _proxy(given: Proxy) -> httpx2.Proxy | None:
    """Return the proxy. Its `repr` contains no password, unlike the URL."""
    if given is None:
        return None
    try:
        proxy = given if isinstance(given, httpx2.Proxy) else httpx2.Proxy(given)
        has_host = bool(proxy.url.host)
    except (TypeError, ValueError, httpx2.InvalidURL):  # the messages of these exceptions may contain the password
        has_host = False
    if not has_host:
        raise ConfigurationError(
            "proxy: expected the URL of a proxy, for example 'http://proxy.internal:3128', or an httpx2.Proxy"
        )
    if proxy.url.scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigurationError("proxy: a SOCKS proxy needs an optional dependency: pip install 'httpx2[socks]'")
    return proxy


def _limits(given: httpx2.Limits) -> httpx2.Limits:
    if not isinstance(given, httpx2.Limits):
        raise ConfigurationError(
            f"limits={given!r}: expected an httpx2.Limits, for example httpx2.Limits(max_connections=100), or None"
        )
    # httpx2 accepts any value. With max_connections=0, each request would wait for a connection until its timeout.
    for name, least, kinds in (
        ("max_connections", 1, int),
        ("max_keepalive_connections", 0, int),
        ("keepalive_expiry", 0, int | float),
    ):
        value = getattr(given, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds) or not value >= least):
            expected = "an integer" if kinds is int else "seconds"
            raise ConfigurationError(f"limits={given!r}: expected {name} to be {expected} of at least {least}, or None")
    return given
