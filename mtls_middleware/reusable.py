"""`Reusable`: a result with the time for which it may be reused."""

import math
from collections.abc import Callable, Generator
from typing import Any, Generic, NamedTuple, TypeVar

from mtls_middleware.effects.flow import Flow

T = TypeVar("T")

# Whether a result still holds at a time (seconds since the epoch), by a look-up in memory. If it raises, the result is
# not used, and the next decision gives the reason.
Check = Callable[[float], bool]


class Reusable(NamedTuple, Generic[T]):
    """A result that may be used again from `begins` until before `ends`, as long as every check is true.

    Attributes:
        value: the result.
        begins, ends: seconds since the epoch. Without arguments, the result holds for ever.
        checks: what to look up at each use, for example whether the issuer's keys are unchanged.
        cost: bytes that the value needs in memory, beyond a value of usual size.

    Example: `Reusable(token, begins=not_before, ends=expires)`
    """

    value: T
    begins: float = -math.inf
    ends: float = math.inf
    checks: tuple[Check, ...] = ()
    cost: int = 0

    @property
    def is_reusable(self) -> bool:
        """Whether there is any time at which the result may be used again."""
        return self.begins < self.ends


def once(value: T) -> Reusable[T]:
    """A result that must not be used again. Example: `once(None)`"""
    return Reusable(value, ends=-math.inf)


def opts_in(owner: object) -> bool:
    """Whether the class of this object declares `is_reusable = True` itself, and the object replaces no method.

    The declaration is not inherited: a subclass, or a method that a user sets on one object, may depend on more.
    """
    kind = type(owner)
    if kind.__dict__.get("is_reusable") is not True:
        return False
    return not any(hasattr(kind, name) for name in getattr(owner, "__dict__", ()))


def decide(validator: Any, given: Any, now: float) -> Flow[Reusable[Any]]:
    """The result of `validator.decide(given, now)`; of `validate` if the validator does not declare itself reusable.

    The `validate` method of a user's class may return its result, or a flow.
    """
    if opts_in(validator):
        decided: Reusable[Any] = yield from validator.decide(given, now)
        return decided
    found = validator.validate(given, now)
    return once((yield from found) if isinstance(found, Generator) else found)
