"""The known traps of servers, as a table: what in the command that starts one lets certificates be forged or lost.

Must never know: the application. Facts measured on the real servers; `doctor` says them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtls_middleware.sources.header import HeaderSource
from mtls_middleware.sources.products import Envoy, HAProxy
from mtls_middleware.sources.server import ServerTLS

# severity, what, advice
Found = tuple[str, str, str]

# A certificate of 12 kB is 19 kB percent-encoded, and 38 kB as Envoy writes it with its chain.
_LARGE = 18_881


@dataclass(frozen=True)
class Command:
    """A server's command line: `server` is its name, `options` maps each option to its value, "" where it has none."""

    server: str
    options: dict[str, str] = field(default_factory=dict)
    headers: bool = False  # the application reads a header source,
    secret: bool = False  # which wants a shared secret,
    own_tls: bool = False  # or ServerTLS
    behind_haproxy: bool = False
    behind_envoy: bool = False

    def number(self, option: str, default: int) -> int:
        """An option's number."""
        value = self.options.get(option, "")
        return int(value) if value.isdecimal() else default


@dataclass(frozen=True, slots=True)
class Trap:
    """One row: for which server, when, how bad, what is wrong, what to do."""

    server: str
    when: Callable[[Command], bool]
    severity: str
    what: str
    advice: str


def _hides_twins(command: Command) -> bool:
    return command.headers and not command.secret


def _rewrites_peers(command: Command) -> bool:
    shut = "--no-proxy-headers" in command.options or command.options.get("--forwarded-allow-ips") == ""
    return command.headers and not shut


_TWIN = "a client's X_SSL_Client_Cert passes for the proxy's X-SSL-Client-Cert unseen, so header sources refuse to work"
_TWIN_ADVICE = (
    "use another server; or have the proxy delete all names with underscores, and give a shared_secret= for that"
)
_OURS = "mtls_middleware.servers.uvicorn_tls:"

TRAPS = (
    Trap("cheroot", _hides_twins, "error", _TWIN, _TWIN_ADVICE),
    Trap("wsgiref", _hides_twins, "error", _TWIN, _TWIN_ADVICE),
    Trap(
        "granian",
        lambda c: _hides_twins(c) and c.options.get("--interface", "") == "wsgi",
        "error",
        _TWIN,
        _TWIN_ADVICE,
    ),
    Trap(
        "granian",
        lambda c: c.own_tls,
        "error",
        "granian cannot hand over the client certificate, so ServerTLS() never finds one",
        "let a proxy end TLS, and use its header source",
    ),
    Trap(
        "waitress",
        lambda c: c.own_tls,
        "error",
        "waitress has no TLS, so ServerTLS() never finds a certificate",
        "let a proxy end TLS, and use its header source",
    ),
    Trap(
        "waitress",
        lambda c: c.headers and "--trusted-proxy" in c.options,
        "error",
        "waitress writes the address of X-Forwarded-For over the peer's, which trusted_proxies= then reads",
        "start it without --trusted-proxy, or use a shared_secret= alone",
    ),
    Trap("uwsgi", _hides_twins, "error", _TWIN, _TWIN_ADVICE),
    Trap(
        "uwsgi",
        lambda c: c.headers and c.number("--buffer-size", 4096) < _LARGE,
        "warning",
        "uWSGI ends connections whose headers exceed 4 kB (--buffer-size)",
        "start it with --buffer-size 65535",
    ),
    Trap(
        "gunicorn",
        lambda c: c.headers and "SSL" in c.options.get("--forwarder-headers", "").upper(),
        "error",
        "--forwarder-headers lets the underscore spelling of a certificate header through, forged ones too",
        "take certificate headers out of it: it opens what it seems to shut",
    ),
    Trap(
        "gunicorn",
        lambda c: c.headers and c.options.get("--header-map", "") == "dangerous",
        "error",
        "--header-map dangerous joins a client's X_SSL_Client_Cert to the proxy's header",
        "leave it at drop, the default",
    ),
    Trap(
        "gunicorn",
        lambda c: c.headers and c.number("--limit-request-field_size", 8190) < _LARGE,
        "warning",
        "gunicorn answers 431 to a header of more than 8190 octets; a certificate of 12 kB has 19 kB",
        "start it with --limit-request-field_size 65536 where certificates are large",
    ),
    Trap(
        "gunicorn",
        lambda c: c.own_tls and c.number("--cert-reqs", 0) == 0,
        "error",
        "gunicorn asks clients for no certificate (--cert-reqs 0), so ServerTLS() never finds one",
        "start it with --cert-reqs 1 (optional) or 2 (required), and --ca-certs",
    ),
    Trap(
        "uvicorn",
        _rewrites_peers,
        "error",
        "uvicorn writes the address of X-Forwarded-For over the peer's (--proxy-headers is the default)",
        "start it with --no-proxy-headers: trusted_proxies= believes no address that a header wrote",
    ),
    Trap(
        "uvicorn",
        lambda c: c.own_tls and not c.options.get("--http", "").startswith(_OURS),
        "error",
        "uvicorn itself does not hand over the client certificate, so ServerTLS() never finds one",
        f"start it with --http {_OURS}H11 --ws {_OURS}WebSockets",
    ),
    Trap(
        "uvicorn",
        lambda c: c.own_tls and c.number("--ssl-cert-reqs", 0) == 0,
        "error",
        "uvicorn asks clients for no certificate (--ssl-cert-reqs 0), so ServerTLS() never finds one",
        "start it with --ssl-cert-reqs 1 (optional) or 2 (required), and --ssl-ca-certs",
    ),
    Trap(
        "uvicorn",
        lambda c: c.own_tls and not c.options.get("--ws", "").startswith(_OURS) and c.options.get("--ws", "") != "none",
        "warning",
        "websockets carry no certificate: only the --http class is ours",
        f"start it with --ws {_OURS}WebSockets, or --ws none",
    ),
    Trap(
        "uvicorn",
        lambda c: c.behind_haproxy and c.options.get("--http", "auto") in ("auto", "httptools"),
        "error",
        "HAProxy forwards trailer fields, and uvicorn's httptools class takes them for header fields: a full spoof",
        f"start it with --http h11 or --http {_OURS}HTTPTools",
    ),
    Trap(
        "daphne",
        lambda c: c.headers and c.behind_envoy,
        "warning",
        "daphne answers 400 to a header of more than 16 kB; Envoy's may have 38 kB",
        "leave chain: true out of Envoy's set_current_client_cert_details where certificates are large",
    ),
)


def of_command(words: Sequence[str], sources: Sequence[object]) -> Iterator[Found]:
    """The traps in a command line, for an application with these sources."""
    command = _command(words, sources)
    if command is None:
        yield (
            "note",
            f"{' '.join(words[:1])!r} is no server that we know",
            "see docs/servers.md for those we measured",
        )
        return
    for trap in TRAPS:
        if trap.server == command.server and trap.when(command):
            yield (trap.severity, trap.what, trap.advice)


# What starts a server that has another name.
_ALIASES = {"runserver": "wsgiref"}  # Django's


def _command(words: Sequence[str], sources: Sequence[object]) -> Command | None:
    """`words` as a server and its options; `python -m SERVER` and paths to it included."""
    known = {trap.server for trap in TRAPS}
    names = [_ALIASES.get(name := Path(word).name.removesuffix("-serve"), name) for word in words]
    position = next((number for number, name in enumerate(names) if name in known), None)
    if position is None:
        return None
    options: dict[str, str] = {}
    rest = list(words[position + 1 :])
    for number, word in enumerate(rest):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            following = rest[number + 1] if number + 1 < len(rest) else ""
            options[name] = value if equals else "" if following.startswith("-") else following
    headers = [each for each in sources if isinstance(each, HeaderSource)]
    return Command(
        server=names[position],
        options=options,
        headers=bool(headers),
        secret=all(each.has_secret for each in headers),
        own_tls=any(isinstance(each, ServerTLS) for each in sources),
        behind_haproxy=any(isinstance(each, HAProxy) for each in headers),
        behind_envoy=any(isinstance(each, Envoy) for each in headers),
    )
