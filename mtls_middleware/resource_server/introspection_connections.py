"""`introspection_connections`: the connections to an introspection endpoint, with a fixed or a renewed certificate."""

import ssl
from collections.abc import Callable

from mtls_middleware import options
from mtls_middleware.certificate_files import (
    CertificateConnections,
    CertificateFiles,
    Roots,
    check_certificate_files,
    trust_context,
)
from mtls_middleware.effects.exchange import Connections, default_context
from mtls_middleware.errors import ConfigurationError


def introspection_connections(
    tls: ssl.SSLContext | None,
    certificate: CertificateFiles | None,
    roots: Roots,
    max_waiting: int,
    proxy: str | None,
) -> tuple[ssl.SSLContext | None, Callable[[float], Connections]]:
    """Return the context that verifies the server, and a function of the time that returns the connections.

    Raises `ConfigurationError` if an argument is invalid.
    """
    most, proxy = options.integer("max_waiting", max_waiting, 1, 100_000, 2), options.proxy_url("proxy", proxy)
    if certificate is None:
        if roots is not None:
            raise ConfigurationError("roots= needs certificate=; without certificate=, give ssl_context= with the CAs")
        fixed = Connections(tls or default_context(), most, proxy)
        return tls, lambda now: fixed  # noqa: ARG005 (a fixed certificate does not depend on the time)
    check_certificate_files(certificate)
    if tls is not None:
        raise ConfigurationError("ssl_context= and certificate= are given: expected one; roots= has the server's CAs")
    renewed = CertificateConnections(certificate, roots, most, proxy)
    return trust_context(roots), renewed.current
