"""`Trap`: one way in which the command that starts a server lets certificates be forged or lost."""

from collections.abc import Callable
from dataclasses import dataclass

from mtls_middleware.cli.server_command import Command


@dataclass(frozen=True, slots=True)
class Trap:
    """One row: for which server, when, how bad, what is wrong, what to do.

    `rests_on` is the option that decides. If its value cannot be read, a warning says so instead.
    """

    server: str
    when: Callable[[Command], bool]
    severity: str
    what: str
    advice: str
    rests_on: str | None = None
