"""A server's command line: which server it starts, with which options, and what the application needs of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtls_middleware.cli.settings import before, settings
from mtls_middleware.cli.wiring import Wired
from mtls_middleware.layers.certificate import CertificateLayer
from mtls_middleware.sources.header import HeaderSource
from mtls_middleware.sources.products import Envoy, HAProxy
from mtls_middleware.sources.server import ServerTLS

# The servers that were measured. The last two are those that mtls-middleware starts itself.
KNOWN = frozenset({
    "cheroot", "daphne", "flask", "gevent", "granian", "gunicorn", "hypercorn", "twist", "uvicorn", "uwsgi", "waitress",
    "werkzeug", "wsgiref", "daphne_tls", "hypercorn_tls",
})  # fmt: skip
# What starts a server that has another name. runserver is Django's.
_ALIASES = {"runserver": "wsgiref", "twistd": "twist", "uwsgi-core": "uwsgi", "flask": "werkzeug"}
_OURS = {
    "mtls_middleware.servers.hypercorn_tls": "hypercorn_tls",
    "mtls_middleware.servers.daphne_tls": "daphne_tls",
}
# Takes the options of another server.
_PARSED_AS = {"hypercorn_tls": "hypercorn", "daphne_tls": "daphne"}


@dataclass(frozen=True)
class Command:
    """A server's command line, and what the application needs of the server.

    Attributes:
        server: the server's name in the table.
        options: each option and its value, "" if it has none; from files and the environment as well.
        unknown: options whose value cannot be read, and why.
        headers: whether the application reads a header source.
        addresses: whether a header source requires that the peer's address is a trusted proxy's.
        hyphens: whether a WSGI application reads a field with a hyphen in its name.
        served: "WSGI" or "ASGI": what the server has to serve; "" if that is not known.
        own_tls: whether the application reads `ServerTLS`.
    """

    server: str
    options: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    headers: bool = False
    addresses: bool = False
    hyphens: bool = False
    served: str = ""
    own_tls: bool = False
    behind_haproxy: bool = False
    behind_envoy: bool = False

    def get(self, option: str, default: str = "") -> str:
        """An option's value."""
        return self.options.get(option, default)

    def number(self, option: str, default: int) -> int:
        """An option's number."""
        value = self.get(option)
        return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else default


def command_of(words: Sequence[str], wired: Sequence[Wired], environment: Mapping[str, str]) -> Command | None:
    """The server that a command line starts, `None` if it is not a known one; `environment`: its variables."""
    position, server = _server(words)
    if server is None:
        return None
    variables = {**environment, **before(words[:position])}
    found = settings(_PARSED_AS.get(server, server), words[position + 1 :], variables)
    layers = [each for each in wired if isinstance(each.layer, CertificateLayer)]
    sources = [each.layer.source for each in layers]
    served = {each.served for each in layers}
    return Command(
        server=server,
        options=found.options,
        unknown=found.unknown,
        headers=any(isinstance(source, HeaderSource) for source in sources),
        addresses=any(map(needs_address, layers)),
        hyphens=any(map(reads_hyphens, layers)),
        served=served.pop() if len(served) == 1 else "",
        own_tls=any(isinstance(source, ServerTLS) for source in sources),
        behind_haproxy=any(isinstance(source, HAProxy) for source in sources),
        behind_envoy=any(isinstance(source, Envoy) for source in sources),
    )


def reads_hyphens(wired: Wired) -> bool:
    """Whether the server decides about names, and the source reads one that a name with underscores may fold into."""
    source = getattr(wired.layer, "source", None)
    joined_anyway = wired.folding is not None  # by an adapter, which is a finding of its own
    return isinstance(source, HeaderSource) and source.reads_hyphens and wired.served == "WSGI" and not joined_anyway


def needs_address(wired: Wired) -> bool:
    """Whether the source requires an address, and the server's own word about it reaches the layer."""
    source = getattr(wired.layer, "source", None)
    return isinstance(source, HeaderSource) and source.needs_address and wired.folding is None


def is_server(word: str) -> bool:
    """Whether a word of a command line names a known server."""
    return _name(word) in KNOWN


def _server(words: Sequence[str]) -> tuple[int, str | None]:
    """The server's place in the command line and its name; `python -m SERVER` and paths to it included."""
    folders = {number + 1 for number, word in enumerate(words) if word in ("cd", "--chdir", "--app-dir")}
    position = next((number for number, word in enumerate(words) if is_server(word) and number not in folders), None)
    return (0, None) if position is None else (position, _name(words[position]))


def _name(word: str) -> str:
    name = _OURS.get(word) or Path(word).name.removesuffix(".exe").removesuffix("-serve")
    return _ALIASES.get(name, name)
