"""Where a server, a framework or a client sets the root of an application whose layers have rules by path."""

from collections.abc import Iterator, Mapping, Sequence

from mtls_middleware.cli.server_command import command_of
from mtls_middleware.cli.wiring import Wired
from mtls_middleware.layers.application_prefixes import ApplicationPrefixes

# The option of each server that sets root_path or SCRIPT_NAME.
_OPTIONS = {
    "uvicorn": "--root-path",
    "hypercorn": "--root-path",
    "hypercorn_tls": "--root-path",
    "daphne": "--root-path",
    "daphne_tls": "--root-path",
    "gunicorn": "--root-path",
    "granian": "--url-path-prefix",
    "waitress": "--url-prefix",
}
_REJECTED = "requests whose path can be read in two ways are rejected (400 ambiguous_path)"


def roots(
    wired: Sequence[Wired], words: Sequence[str] | None, environment: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """Severity, finding and advice, if the layers have different rules for different paths."""
    by_path = [each for each in wired if each.layer.depends_on_path]
    if not by_path:
        return
    own = dict(ApplicationPrefixes(by_path[0].inner).now())
    stated = {each.layer.root_path for each in wired} - {None}
    for prefix in sorted(own):
        if stated - {prefix}:
            yield (
                "error",
                f"the application removes {prefix!r} from paths by itself, and the layers have root_path={stated}",
                "give both the same root",
            )
        elif not stated:
            yield (
                "warning",
                f"the application removes {prefix!r} from paths by itself (root_path of FastAPI, FORCE_SCRIPT_NAME, a "
                f"dispatcher): {_REJECTED}",
                f"give the layers root_path={prefix!r} if the application is mounted there",
            )
    if not stated and words is not None:
        yield from _of_command(words, wired, environment)


def _of_command(
    words: Sequence[str], wired: Sequence[Wired], environment: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    command = command_of(words, wired, environment)
    if command is None:
        return
    option = _OPTIONS.get(command.server, "")
    root = command.get(option) or (environment.get("SCRIPT_NAME", "") if command.server == "gunicorn" else "")
    if root:
        yield (
            "warning",
            f"{command.server} sets the root {root!r}, and the layers have no root_path=: {_REJECTED}",
            f"give the layers root_path={root.rstrip('/')!r}",
        )
    elif command.server.startswith("daphne"):
        yield (
            "note",
            f"a client sets the root of its request under daphne (Daphne-Root-Path): {_REJECTED}",
            "give the layers root_path='', or the root at which the application is mounted: it then applies whatever "
            "the client sends",
        )
