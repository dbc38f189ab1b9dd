"""Reads a server's command line: the server, its options, and what the application needs from the server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtls_middleware.cli.programs import program_of, uvicorn_options
from mtls_middleware.cli.settings import assignments, settings
from mtls_middleware.cli.wiring import LayerPlacement
from mtls_middleware.layers.certificate import CertificateLayer
from mtls_middleware.sources.header import HeaderSource
from mtls_middleware.sources.products import Envoy, HAProxy
from mtls_middleware.sources.server import ServerTLS

# The servers whose behaviour was measured. The last two are modules of mtls_middleware.servers.
KNOWN = frozenset({
    "cheroot", "daphne", "fastapi", "flask", "gevent", "granian", "gunicorn", "hypercorn", "twist", "uvicorn", "uwsgi",
    "waitress", "werkzeug", "wsgiref", "daphne_tls", "hypercorn_tls",
})  # fmt: skip
# Command -> server, for commands that do not have the name of their server. runserver is a Django command.
_ALIASES = {"runserver": "wsgiref", "twistd": "twist", "uwsgi-core": "uwsgi", "flask": "werkzeug"}
_OWN_MODULES = {
    "mtls_middleware.servers.hypercorn_tls": "hypercorn_tls",
    "mtls_middleware.servers.daphne_tls": "daphne_tls",
}
# Server -> another server that has the same options.
_PARSED_AS = {"hypercorn_tls": "hypercorn", "daphne_tls": "daphne"}
# Command -> the server that the command starts. The command accepts some of the options of that server.
_STARTS = {"fastapi": "uvicorn"}


@dataclass(frozen=True)
class Command:
    """A server's command line, and what the application needs from the server.

    Attributes:
        server: the name of the server, as in `KNOWN`.
        launcher: the program that starts the server, for example "fastapi"; otherwise the same as `server`.
        options: a mapping of option to value (`""` for an option without a value), from the command line, files and the
            environment.
        unknown: a mapping of option to the reason why its value cannot be read.
        headers: whether the application uses a header source.
        addresses: whether a header source requires that the peer's address is that of a trusted proxy.
        hyphens: whether a WSGI application reads a header with a hyphen in its name.
        served: the interface that the server calls, "WSGI" or "ASGI"; "" if the interface is not known.
        own_tls: whether the application uses `ServerTLS`.
        behind_haproxy: whether the application uses the source `HAProxy`.
        behind_envoy: whether the application uses the source `Envoy`.
    """

    server: str
    launcher: str = ""
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
        """Return the value of an option, or `default` if the option is not given."""
        return self.options.get(option, default)

    def number(self, option: str, default: int) -> int:
        """Return the value of an option as an integer, or `default` if the value is not a number of 1 to 9 digits."""
        value = self.get(option)
        return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else default


def command_of(
    words: Sequence[str], placements: Sequence[LayerPlacement], environment: Mapping[str, str]
) -> Command | None:
    """Return the command that starts a known server in the command line `words`.

    Returns `None` if `words` names no known server.

    Arguments: `environment`, the environment variables of the server.
    """
    position, server = _server(words)
    variables = {**environment, **assignments(words if server is None else words[:position])}
    if server is not None:
        found = settings(_PARSED_AS.get(server, server), words[position + 1 :], variables)
    else:
        program = program_of(words)
        in_code = None if program is None else uvicorn_options(program, variables)
        if in_code is None:
            return None
        server, found = "uvicorn", in_code
    layers = [each for each in placements if isinstance(each.layer, CertificateLayer)]
    sources = [each.layer.source for each in layers]
    served = {each.served for each in layers}
    return Command(
        server=_STARTS.get(server, server),
        launcher=server,
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


def reads_hyphens(placement: LayerPlacement) -> bool:
    """Return whether the server can confuse a header that the source reads with a header that has underscores."""
    source = getattr(placement.layer, "source", None)
    # `doctor` reports the adapter in a separate finding, so it is not reported here.
    by_adapter = placement.folding is not None
    return isinstance(source, HeaderSource) and source.reads_hyphens and placement.served == "WSGI" and not by_adapter


def needs_address(placement: LayerPlacement) -> bool:
    """Return whether the source requires a trusted address.

    The result is `False` if the layer is inside an adapter from ASGI to WSGI, such as a2wsgi. The adapter hides the
    peer's address, and `doctor` reports this in a separate finding.
    """
    source = getattr(placement.layer, "source", None)
    return isinstance(source, HeaderSource) and source.needs_address and placement.folding is None


def is_server(word: str) -> bool:
    """Return whether a word of a command line names a known server."""
    return _name(word) in KNOWN


def _server(words: Sequence[str]) -> tuple[int, str | None]:
    """Return the index and name of the server in the command line, even if a path or `python -m` names the server."""
    folders = {number + 1 for number, word in enumerate(words) if word in ("cd", "--chdir", "--app-dir")}
    position = next((number for number, word in enumerate(words) if is_server(word) and number not in folders), None)
    return (0, None) if position is None else (position, _name(words[position]))


def _name(word: str) -> str:
    name = _OWN_MODULES.get(word) or Path(word).name.removesuffix(".exe").removesuffix("-serve")
    return _ALIASES.get(name, name)
