"""`Trap`: a server setting that lets a client forge a certificate, or that makes the server lose the certificate."""

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
