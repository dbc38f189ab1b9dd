"""cheroot's adapter for Python's `ssl`, made to hand over the chain that the client presented.

Must never know: header fields. What it tells is the `ssl` module's word alone, which `sources.ServerTLS` then reads.

    server = cheroot.wsgi.Server(("0.0.0.0", 8443), app)
    server.ssl_adapter = cheroot_tls.Adapter("server.pem", "server.key")
    server.ssl_adapter.context.load_verify_locations("clients.pem")
    server.ssl_adapter.context.verify_mode = ssl.CERT_OPTIONAL

cheroot's own adapter gives `SSL_CLIENT_CERT` and `SSL_CLIENT_VERIFY`; this one, beside them, `SSL_CLIENT_CERT_CHAIN_0`
and on: the rest of the chain, PEM, in mod_ssl's names. `CERT_OPTIONAL` lets clients without certificate in,
`CERT_REQUIRED` does not.

Rests on what cheroot promises, as it is in 11.1, and was since 9.0: `BuiltinSSLAdapter.get_environ(sock)` is a public
method whose answer is merged into the environ of each request of the connection. Where that has moved, naming
`Adapter` raises `ConfigurationError`.
"""

import ssl
from inspect import signature
from typing import Any

from mtls_middleware.servers.interface import names_used, require_methods, taken
from mtls_middleware.sources.server import presented_chain


class _HandsOver:
    """cheroot's `BuiltinSSLAdapter`, with the presented chain in `SSL_CLIENT_CERT_CHAIN_n`."""

    def get_environ(self, sock: Any) -> dict[str, Any]:
        """What is merged into the environ of each request of this connection."""
        environ: dict[str, Any] = super().get_environ(sock)  # type: ignore[misc]  # cheroot's class is the next in line
        # cheroot has the leaf here only where the context verifies; without it a chain is nobody's.
        if environ.get("SSL_CLIENT_CERT"):
            leaf, *rest = presented_chain(sock) or (b"",)
            if leaf == sock.getpeercert(True):
                for number, der in enumerate(rest):
                    environ.setdefault(f"SSL_CLIENT_CERT_CHAIN_{number}", ssl.DER_cert_to_PEM_cert(der))
        return environ


def __getattr__(name: str) -> type:
    """`Adapter`, made when it is first named: cheroot is optional. Raises `ConfigurationError`."""
    if name != "Adapter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    base = taken(
        f"{__name__}.Adapter",
        "cheroot.ssl.builtin",
        "BuiltinSSLAdapter",
        _probe,
        needs=("cheroot",),
        release="11.1",
        pip="'cheroot>=11.0'",
    )
    made = type(name, (_HandsOver, base), {"__doc__": _HandsOver.__doc__, "__module__": __name__})
    globals()[name] = made
    return made


def _probe(base: Any) -> None:
    require_methods(base, ("get_environ", "wrap"))
    if list(signature(base.get_environ).parameters) != ["self", "sock"]:
        raise TypeError("its get_environ takes other arguments than sock")
    if "get_environ" not in names_used(base.wrap.__code__):
        raise TypeError("its wrap does not ask get_environ")
