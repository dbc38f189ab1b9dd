"""Finds out whether a server, framework or client sets the root path of an application whose layers depend on paths."""

from collections.abc import Iterator, Mapping, Sequence

from mtls_middleware.cli.server_command import command_of
from mtls_middleware.cli.wiring import LayerPlacement
from mtls_middleware.layers.application_prefixes import ApplicationPrefixes

# Server -> the option of the server that sets root_path or SCRIPT_NAME.
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
    placements: Sequence[LayerPlacement], words: Sequence[str] | None, environment: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """Yield the severity, the problem and the advice of each finding about the root path.

    Yields nothing if no layer has different rules for different paths.
    """
    by_path = [each for each in placements if each.layer.depends_on_path]
    if not by_path:
        return
    own = dict(ApplicationPrefixes(by_path[0].inner).now())
    configured = {each.layer.root_path for each in placements} - {None}
    for prefix in sorted(own):
        if configured - {prefix}:
            yield (
                "error",
                f"the application itself removes {prefix!r} from paths, but the layers have root_path={configured}",
                "give the application and the layers the same root",
            )
        elif not configured:
            yield (
                "warning",
                f"the application itself removes {prefix!r} from paths (root_path of FastAPI, FORCE_SCRIPT_NAME, a "
                f"dispatcher): {_REJECTED}",
                f"give the layers root_path={prefix!r} if the application is mounted there",
            )
    if not configured and words is not None:
        yield from _roots_of_command(words, placements, environment)


def _roots_of_command(
    words: Sequence[str], placements: Sequence[LayerPlacement], environment: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    command = command_of(words, placements, environment)
    if command is None:
        return
    option = _OPTIONS.get(command.server, "")
    root = command.get(option) or (environment.get("SCRIPT_NAME", "") if command.server == "gunicorn" else "")
    if root:
        yield (
            "warning",
            f"{command.server} sets the root {root!r}, but the layers have no root_path=: {_REJECTED}",
            f"give the layers root_path={root.rstrip('/')!r}",
        )
    elif command.server.startswith("daphne"):
        yield (
            "note",
            f"under daphne, a client can set the root of its own request (Daphne-Root-Path): {_REJECTED}",
            "give the layers root_path='', or the root at which the application is mounted: the layers then use this "
            "root, whatever the client sends",
        )
