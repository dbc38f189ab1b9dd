"""`Trap`: one server setting that lets a client forge a certificate, or that loses the certificate."""

from collections.abc import Callable
from dataclasses import dataclass

from mtls_middleware.cli.server_command import Command


@dataclass(frozen=True, slots=True)
class Trap:
    """One row of the table of traps.

    Attributes:
        server: the name of the server, as in `Command.server`.
        when: whether a command has the trap.
        severity: "error", "warning" or "note".
        what: the problem.
        advice: what the operator can change.
        deciding_option: the option that decides whether a command has the trap. If the value of this option cannot be
            read, `doctor` reports that instead, as a warning.
    """

    server: str
    when: Callable[[Command], bool]
    severity: str
    what: str
    advice: str
    deciding_option: str | None = None
