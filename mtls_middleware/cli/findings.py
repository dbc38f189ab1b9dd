"""Finds dangerous settings (traps) in the command that starts a server. Does not run the command."""

from collections.abc import Iterator, Mapping, Sequence

from mtls_middleware.cli.server_command import Command, command_of, needs_address, reads_hyphens
from mtls_middleware.cli.trap import FOLDS_ADVICE, HIDES, HIDES_ADVICE, Trap
from mtls_middleware.cli.traps import TRAPS
from mtls_middleware.cli.wiring import LayerPlacement

# The severity, the problem and the advice of a finding.
Row = tuple[str, str, str]


def of_command(
    words: Sequence[str], placements: Sequence[LayerPlacement], environment: Mapping[str, str]
) -> Iterator[Row]:
    """Yield a finding for each trap in the command line `words`, for an application with these layers.

    Arguments: `environment`, the environment variables of the server. Assignments in the command line override them.
    """
    command = command_of(words, placements, environment)
    if command is None:
        yield (
            "note",
            f"{' '.join(words[:1])!r} is not a known server",
            "docs/servers.md lists the known servers",
        )
        if any(map(reads_hyphens, placements)):
            yield (
                "error",
                "an unknown server may read X_SSL_Client_Cert as X-SSL-Client-Cert",
                FOLDS_ADVICE,
            )
        if any(needs_address(each) and each.served == "WSGI" for each in placements):
            yield ("error", f"a server that mtls-middleware does not know {HIDES}", HIDES_ADVICE)
        return
    undecided: set[str] = set()
    for trap in TRAPS:
        if trap.server != command.server:
            continue
        if trap.deciding_option in command.unknown:
            if _may_apply(trap, command):
                undecided.add(trap.deciding_option or "")
        elif trap.when(command):
            yield (trap.severity, trap.what, trap.advice)
    for option in sorted(undecided):
        yield (
            "warning",
            f"cannot tell the value of {option}: {command.unknown[option]}",
            f"assign a literal value, or give {option} in --server",
        )


def _may_apply(trap: Trap, command: Command) -> bool:
    """Return whether some value of an option that cannot be read would make the trap apply to this application."""
    if trap.deciding_option in ("--cert-reqs", "--ssl-cert-reqs", "--verify-mode", "--cert"):
        return command.own_tls
    if trap.deciding_option in ("--header-map", "--forwarder-headers", "--protocol"):
        return command.hyphens
    return command.headers or (trap.deciding_option == "--http" and command.own_tls)
