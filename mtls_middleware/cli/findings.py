"""Which traps are in the command that starts a server. It reads files that the command names, and starts nothing."""

from collections.abc import Iterator, Mapping, Sequence

from mtls_middleware.cli.server_command import Command, command_of, needs_address, reads_hyphens
from mtls_middleware.cli.trap import Trap
from mtls_middleware.cli.traps import FOLDS_ADVICE, HIDES, HIDES_ADVICE, TRAPS
from mtls_middleware.cli.wiring import Wired

# severity, what, advice
Found = tuple[str, str, str]


def of_command(words: Sequence[str], wired: Sequence[Wired], environment: Mapping[str, str]) -> Iterator[Found]:
    """The traps in a command line, for an application with these layers.

    Arguments: `environment`: the variables with which the server is started; those in the command line count as well.
    """
    command = command_of(words, wired, environment)
    if command is None:
        yield (
            "note",
            f"{' '.join(words[:1])!r} is not a known server",
            "docs/servers.md lists the servers that were measured",
        )
        if any(map(reads_hyphens, wired)):
            yield (
                "error",
                "the server is not known to keep names with underscores apart from names with hyphens",
                FOLDS_ADVICE,
            )
        if any(needs_address(each) and each.served == "WSGI" for each in wired):
            yield ("error", f"a server that is not known {HIDES}", HIDES_ADVICE)
        return
    undecided: set[str] = set()
    for trap in TRAPS:
        if trap.server != command.server:
            continue
        if trap.rests_on in command.unknown:
            if _may_apply(trap, command):
                undecided.add(trap.rests_on or "")
        elif trap.when(command):
            yield (trap.severity, trap.what, trap.advice)
    for option in sorted(undecided):
        yield (
            "warning",
            f"cannot tell what {option} is: {command.unknown[option]}",
            f"assign a literal, or give {option} in --server",
        )


def _may_apply(trap: Trap, command: Command) -> bool:
    """Whether the trap matters to this application, whatever the option that cannot be read says."""
    if trap.rests_on in ("--cert-reqs", "--verify-mode"):
        return command.own_tls
    if trap.rests_on in ("--header-map", "--forwarder-headers", "--protocol"):
        return command.hyphens
    return command.headers
