"""`reset_after_fork`: a forked child process resets objects that hold connections, locks or work of its parent."""

import os
import weakref
from typing import Protocol


class Resettable(Protocol):
    """An object whose state belongs to one process."""

    def after_fork(self) -> None:
        """Discard the state that belongs to the parent process. The child process has only this thread."""


_instances: weakref.WeakSet[Resettable] = weakref.WeakSet()


def reset_after_fork(instance: Resettable) -> None:
    """Let each forked child process call `instance.after_fork()`. The object is not kept alive.

    Example: `reset_after_fork(self)` in `__init__`
    """
    _instances.add(instance)


def _reset() -> None:
    for each in list(_instances):
        each.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)
