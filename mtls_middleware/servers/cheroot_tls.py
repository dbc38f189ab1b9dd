"""Extends cheroot's adapter for Python's `ssl`: the application also gets the chain that the client presented.

    server = cheroot.wsgi.Server(("0.0.0.0", 8443), app)
    server.ssl_adapter = cheroot_tls.Adapter("server.pem", "server.key")
    server.ssl_adapter.context.load_verify_locations("clients.pem")
    server.ssl_adapter.context.verify_mode = ssl.CERT_OPTIONAL

cheroot's own adapter sets `SSL_CLIENT_CERT` and `SSL_CLIENT_VERIFY`. This adapter also sets `SSL_CLIENT_CERT_CHAIN_0`,
`SSL_CLIENT_CERT_CHAIN_1` and so on: the rest of the chain as PEM, under the names that mod_ssl uses. The source
`ServerTLS` reads these variables. With `CERT_OPTIONAL`, clients without a certificate are accepted. With
`CERT_REQUIRED`, they are rejected.

The class depends on cheroot 9.0 to 11.1: `BuiltinSSLAdapter.get_environ(sock)` is a public method, and cheroot merges
its result into the environ of each request of the connection. If this interface has changed, accessing `Adapter` raises
`ConfigurationError`.
"""

import ssl
from inspect import signature
from typing import Any

from mtls_middleware.servers.interface import names_used, require_methods, server_interface
from mtls_middleware.sources.server import presented_chain


class _PresentedChainMixin:
    """Extends cheroot's `BuiltinSSLAdapter` with the presented chain, in `SSL_CLIENT_CERT_CHAIN_0` and so on."""

    def get_environ(self, sock: Any) -> dict[str, Any]:
        """Return the variables that cheroot adds to the environ of each request of this connection."""
        environ: dict[str, Any] = super().get_environ(sock)  # type: ignore[misc]  # super() is cheroot's class
        # cheroot sets the leaf only if the context verifies clients. A chain without its leaf is useless.
        if environ.get("SSL_CLIENT_CERT"):
            leaf, *rest = presented_chain(sock) or (b"",)
            if leaf == sock.getpeercert(True):
                for number, der in enumerate(rest):
                    environ.setdefault(f"SSL_CLIENT_CERT_CHAIN_{number}", ssl.DER_cert_to_PEM_cert(der))
        return environ


def __getattr__(name: str) -> type:
    """Create `Adapter` when it is first accessed, because cheroot is optional.

    Raises `ConfigurationError` if cheroot is missing or has changed.
    """
    if name != "Adapter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    base = server_interface(
        f"{__name__}.Adapter",
        "cheroot.ssl.builtin",
        "BuiltinSSLAdapter",
        _probe,
        needs=("cheroot",),
        release="11.1",
        pip="'cheroot>=11.0'",
    )
    adapter = type(
        name, (_PresentedChainMixin, base), {"__doc__": _PresentedChainMixin.__doc__, "__module__": __name__}
    )
    globals()[name] = adapter
    return adapter


def _probe(base: Any) -> None:
    require_methods(base, ("get_environ", "wrap"))
    if list(signature(base.get_environ).parameters) != ["self", "sock"]:
        raise TypeError("the argument of get_environ is not named sock")
    if "get_environ" not in names_used(base.wrap.__code__):
        raise TypeError("BuiltinSSLAdapter.wrap does not call get_environ")
