"""`Trap`: a server setting that lets a client forge a certificate, or that makes the server lose the certificate.

This module also has the rows of the table of traps that several servers share.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mtls_middleware.cli.server_command import Command


@dataclass(frozen=True, slots=True)
class Trap:
    """One row of the table of traps.

    Attributes:
        server: the name of the server, as in `Command.server`.
        when: a function that returns whether a command has the trap.
        severity: "error", "warning" or "note".
        what: the problem.
        advice: what the operator can change.
        deciding_option: the option that decides whether a command has the trap. If the value of this option cannot be
            read, `doctor` reports a warning about the option instead.
    """

    server: str
    when: Callable[[Command], bool]
    severity: str
    what: str
    advice: str
    deciding_option: str | None = None


UVICORN_MODULE = "mtls_middleware.servers.uvicorn_tls:"

FOLDS = (
    "joins a client's X_SSL_Client_Cert and the proxy's X-SSL-Client-Cert to one name: a header source that reads a "
    "name with hyphens raises ConfigurationError"
)
FOLDS_ADVICE = (
    "use header names without hyphens such as MtlsClientCert, as proxy-config does; or use another server, such as "
    "gunicorn or waitress; or let the proxy delete all header names with underscores, and set "
    "proxy_deletes_underscores=True"
)
HIDES = (
    "does not show a WSGI application where the peer's address comes from, so trusted_proxies= never matches: the "
    "certificate is ignored"
)
HIDES_ADVICE = "use shared_secret= without trusted_proxies=; or wrap the adapter in a layer of mtls_middleware.asgi"
NO_CURE = "A shared_secret= is a second line of defence and not a cure: half a request gets the next request's secret."
H2C = (
    "accepts HTTP/2 in clear text: if the proxy forwards upgrades, a client can write to the server directly, with the "
    "proxy's address and any certificate header"
)
BODY = (
    "does not consume the body of a request for an upgrade: a second request in this body has the proxy's address, "
    "and can have any certificate header"
)
CONNECT = (
    "reads what follows CONNECT as requests: if the proxy forwards CONNECT, these requests have the proxy's "
    "address, and can have any certificate header"
)
CONNECT_ADVICE = "let the proxy answer CONNECT itself, as the configurations of proxy-config do"
ADDRESS = "start the server without this option, or use shared_secret= without trusted_proxies="


def may_fold(command: Command) -> bool:
    """Return whether the server calls a WSGI application that reads a header with a hyphen in its name."""
    return command.hyphens and command.served != "ASGI"


def folding(server: str, when: Callable[[Command], bool] = may_fold) -> Trap:
    """Return the row for a server that joins header names."""
    return Trap(server, when, "error", f"{server} {FOLDS}", FOLDS_ADVICE)


def hidden_address(server: str, when: Callable[[Command], bool] = lambda c: c.served == "WSGI") -> Trap:
    """Return the row for a server that does not show where the peer's address comes from."""
    return Trap(server, lambda c: c.addresses and when(c), "error", f"{server} {HIDES}", HIDES_ADVICE)


def connect(server: str, advice: str = "", when: Callable[[Command], bool] = lambda _: True) -> Trap:
    """Return the row for a server that reads the bytes after a CONNECT request as further requests."""
    advice = f"{advice}{'; also ' if advice else ''}{CONNECT_ADVICE}"
    return Trap(server, lambda c: c.headers and when(c), "warning", f"{server} {CONNECT}", f"{advice}. {NO_CURE}")


def rewrites_peers(command: Command) -> bool:
    """Return whether uvicorn replaces a peer's address that a source must trust."""
    disabled = "--no-proxy-headers" in command.options or command.get("--forwarded-allow-ips", "127.0.0.1") == ""
    return command.addresses and not disabled
