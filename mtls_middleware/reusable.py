"""`Reusable`: the result of a decision, and the time for which the result may be reused."""

import math
from collections.abc import Callable, Generator
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

from mtls_middleware.effects.flow import Flow

T = TypeVar("T")

# A function that takes the time (seconds since the epoch) and returns whether a result is still valid then. It performs
# no I/O. If it raises an exception, the result is not reused, and a new decision is made.
Check = Callable[[float], bool]


class Reusable(NamedTuple, Generic[T]):
    """A result that may be reused from `begins` until before `ends`, as long as every check returns `True`.

    Attributes:
        value: the result.
        begins, ends: the times between which the result may be reused, in seconds since the epoch. By default, the time
            is unlimited.
        checks: functions that are called before each reuse, for example to check that the issuer's keys are unchanged.
        cost: the bytes of memory by which the value exceeds a value of usual size.

    Example: `Reusable(token, begins=not_before, ends=expires)`
    """

    value: T
    begins: float = -math.inf
    ends: float = math.inf
    checks: tuple[Check, ...] = ()
    cost: int = 0

    def within(self, *others: "Reusable[Any]") -> "Reusable[T]":
        """Return this result, limited to the time for which all `others` may be reused, too, and with their checks.

        Example: `Reusable(token).within(signature, revocation)`
        """
        begins, ends, checks = self.begins, self.ends, self.checks
        for each in others:
            begins, ends, checks = max(begins, each.begins), min(ends, each.ends), checks + each.checks
        return Reusable(self.value, begins, ends, checks, self.cost)


def once(value: T) -> Reusable[T]:
    """Return `value` as a result that must not be reused. Example: `once(None)`"""
    return Reusable(value, ends=-math.inf)


def opts_in(owner: object) -> bool:
    """Return whether the class of this object itself declares `is_reusable = True`, and the object replaces no method.

    The declaration is not inherited, because the results of a subclass may depend on more data. The same is true for a
    method that a user sets on one object.
    """
    kind: Any = type(owner)
    if kind.__dict__.get("is_reusable") is not True:
        return False
    return _names_of(kind).isdisjoint(getattr(owner, "__dict__", ()))


@lru_cache(maxsize=64)
def _names_of(kind: Any) -> frozenset[str]:
    return frozenset(dir(kind))


def decide(validator: Any, given: Any, now: float) -> Flow[Reusable[Any]]:
    """Return the result of `validator.decide(given, now)` if the validator declares its results reusable.

    For any other validator, return the result of `validator.validate(given, now)`, which must not be reused. The method
    `validate` may return the result itself, or a flow.
    """
    if opts_in(validator):
        decided: Reusable[Any] = yield from validator.decide(given, now)
        return decided
    found = validator.validate(given, now)
    return once((yield from found) if isinstance(found, Generator) else found)
