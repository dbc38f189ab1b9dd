"""Rules over a client certificate, joined by `&`, `|` and `~`.

The result of a rule is true, false or unknown. A rule over names is unknown if the certificate is only presented, or if
the name cannot be read. The order of joined rules never changes the result.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import NoReturn

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, MalformedCertificate, Refused

# Of joined rules so many stand in a log.
_SHOWN = 8
# Rules within rules: written by hand there are three or four; Python itself follows no more than some hundred.
_DEEPEST = 100

# Kleene's three values: True, False, None for "unknown".
Judgement = bool | None


class Rule:
    """What all rules have in common. `rule.holds(certificate)` is `True` only for a plain yes."""

    # Whether a merely presented certificate can satisfy the rule at all; decides at construction whether a source fits.
    may_accept_presented = False
    # Whether one can fail it, by what is known all the same: the answer that `~` turns into the former.
    may_reject_presented = False
    # Whether it says the same of one certificate for ever, so that its answer may be remembered.
    is_lasting: bool = False
    # How many rules stand within each other.
    depth = 1

    def __init_subclass__(cls) -> None:
        """A class says so itself: one that somebody makes of ours may ask for more than ours."""
        cls.is_lasting = cls.__dict__.get("is_lasting", False)

    def judge(self, certificate: ClientCertificate) -> Judgement:
        """`True`, `False`, or `None` for unknown.

        A rule that raises `MalformedCertificate` is unknown. If it raises another exception and the other rules do not
        decide alone, the exception reaches the caller: the request is rejected, and the log shows the fault.
        """
        raise NotImplementedError

    def holds(self, certificate: ClientCertificate) -> bool:
        """Whether the certificate is allowed: only if the result is `True`, never if it is unknown."""
        try:
            return self.judge(certificate) is True
        except MalformedCertificate:
            return False

    def __and__(self, other: "Rule | Callable[[ClientCertificate], bool]") -> "Rule":
        return All((self, as_rule(other)))

    def __or__(self, other: "Rule | Callable[[ClientCertificate], bool]") -> "Rule":
        return AnyOf((self, as_rule(other)))

    def __rand__(self, other: "Callable[[ClientCertificate], bool]") -> "Rule":
        return All((as_rule(other), self))

    def __ror__(self, other: "Callable[[ClientCertificate], bool]") -> "Rule":
        return AnyOf((as_rule(other), self))

    def __invert__(self) -> "Rule":
        return Not(self)

    def __bool__(self) -> bool:
        """`one and other` would silently be `other` alone: raises `ConfigurationError`."""
        raise ConfigurationError(f"{self!r} is no truth value: join rules by &, | and ~, not by and, or, not")


@dataclass(frozen=True, repr=False)
class Joined(Rule):
    """Rules joined by one operator, in one row: ten thousand alternatives are no deeper than two."""

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_lasting", type(self).is_lasting and all(each.is_lasting for each in self.rules))
        object.__setattr__(self, "depth", _deeper(each.depth - (type(each) is type(self)) for each in self.rules))
        flat = (each.rules if type(each) is type(self) else (each,) for each in self.rules)
        object.__setattr__(self, "rules", tuple(chain.from_iterable(flat)))

    def _joined(self, certificate: ClientCertificate, *, decisive: bool) -> Judgement:
        """`decisive` if one rule has this result, whatever the others do; else unknown if one rule is unknown.

        A rule that raises is unknown, so that the order of the rules cannot matter.
        """
        judgement: Judgement = not decisive
        failures: list[Exception] = []
        for rule in self.rules:
            try:
                judged = rule.judge(certificate)
            except MalformedCertificate:
                judged = None
            except Exception as failure:  # noqa: BLE001 (raised below, unless another rule decides)
                failures.append(failure)
                continue
            if judged is decisive:
                return decisive
            # Also for a result that is neither True nor False: a coroutine that was not awaited is truthy.
            if judged is not (not decisive):
                judgement = None
        if failures:
            raise max(failures, key=_severity)
        return judgement

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.rules[:_SHOWN]))
        more = len(self.rules) - _SHOWN
        return f"{type(self).__name__}({shown}{f', and {more} more' if more > 0 else ''})"


@dataclass(frozen=True, repr=False)
class All(Joined):
    """`left & right`."""

    is_lasting = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "may_accept_presented", all(each.may_accept_presented for each in self.rules))
        object.__setattr__(self, "may_reject_presented", any(each.may_reject_presented for each in self.rules))
        super().__post_init__()

    def judge(self, certificate: ClientCertificate) -> Judgement:
        return self._joined(certificate, decisive=False)


@dataclass(frozen=True, repr=False)
class AnyOf(Joined):
    """`left | right`."""

    is_lasting = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "may_accept_presented", any(each.may_accept_presented for each in self.rules))
        object.__setattr__(self, "may_reject_presented", all(each.may_reject_presented for each in self.rules))
        super().__post_init__()

    def judge(self, certificate: ClientCertificate) -> Judgement:
        return self._joined(certificate, decisive=True)


@dataclass(frozen=True)
class Not(Rule):
    """`~rule`: unknown stays unknown."""

    rule: Rule
    is_lasting = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "may_accept_presented", self.rule.may_reject_presented)
        object.__setattr__(self, "may_reject_presented", self.rule.may_accept_presented)
        object.__setattr__(self, "is_lasting", type(self).is_lasting and self.rule.is_lasting)
        object.__setattr__(self, "depth", _deeper([self.rule.depth]))

    def judge(self, certificate: ClientCertificate) -> Judgement:
        inner = self.rule.judge(certificate)
        return not inner if isinstance(inner, bool) else None


def _severity(failure: Exception) -> tuple[bool, str]:
    """The same order whatever the order of the rules: a defect before a refusal such as `Unavailable`, then by name."""
    return not isinstance(failure, Refused), type(failure).__name__


def _deeper(depths: Iterable[int]) -> int:
    depth = 1 + max(depths)
    if depth > _DEEPEST:
        raise ConfigurationError(
            f"more than {_DEEPEST} rules within each other: join those of one operator first, such as (a | b | c) & d"
        )
    return depth


class Identity(Rule):
    """A rule over names. Its result is unknown unless the certificate is verified and the names can be read."""

    def matches(self, certificate: ClientCertificate) -> bool:
        """Whether the names match, verified or not. Raises `MalformedCertificate` if they cannot be read."""
        raise NotImplementedError

    def judge(self, certificate: ClientCertificate) -> Judgement:
        return self.compared(certificate) if certificate.verified else None

    def compared(self, certificate: ClientCertificate) -> Judgement:
        """The result of `matches`, unknown if the names cannot be read."""
        try:
            return _plain(self.matches(certificate))
        except MalformedCertificate:
            return None


def _plain(answer: object) -> Judgement:
    """Only `True` itself is true: an un-awaited coroutine is truthy, too."""
    if answer is True or answer is False:
        return answer
    if inspect.iscoroutine(answer):
        answer.close()
    return None


@dataclass(frozen=True)
class Function(Identity):
    """Any callable over the certificate. It is not called with a certificate that is only presented."""

    function: Callable[[ClientCertificate], bool]

    def matches(self, certificate: ClientCertificate) -> bool:
        return self.function(certificate)


class Presented(Rule):
    """Let `rule` see merely presented certificates too: what it names is then what the client wrote into its own.

    Example: `Presented(lambda certificate: certificate.thumbprint in registered)`
    """

    may_accept_presented = True
    may_reject_presented = True
    is_lasting: bool = True

    def __init__(self, rule: Identity | Callable[[ClientCertificate], bool]) -> None:
        inner = as_rule(rule)
        if not isinstance(inner, Identity):
            raise ConfigurationError(f"Presented({rule!r}): wrap the single rule or callable, then combine")
        self._rule = inner
        self.is_lasting = type(self).is_lasting and inner.is_lasting

    def judge(self, certificate: ClientCertificate) -> Judgement:
        return self._rule.compared(certificate)

    def __repr__(self) -> str:
        return f"Presented({self._rule!r})"


class Anyone:
    """The type of `ANYONE`: the value of a path in `allow` that needs no certificate.

    It is not a rule. `ANYONE & rule`, `~ANYONE`, `allow=ANYONE` and the like raise `ConfigurationError`.

    Example: `allow={"/": Subject("CN=ops,O=Acme"), "/public": ANYONE}`
    """

    __slots__ = ()

    def refuse(self, *_: object) -> NoReturn:
        raise ConfigurationError(
            "ANYONE is not a rule: use it only as the value of a path in allow=, for example "
            "allow={'/': Subject('CN=ops,O=Acme'), '/public': ANYONE}"
        )

    __and__: Callable[..., NoReturn] = refuse
    __or__: Callable[..., NoReturn] = refuse
    __rand__: Callable[..., NoReturn] = refuse
    __ror__: Callable[..., NoReturn] = refuse
    __xor__: Callable[..., NoReturn] = refuse
    __rxor__: Callable[..., NoReturn] = refuse
    __invert__: Callable[..., NoReturn] = refuse
    __bool__: Callable[..., NoReturn] = refuse

    def __repr__(self) -> str:
        return "ANYONE"

    def __reduce__(self) -> str:
        return "ANYONE"  # a copy is the same object


ANYONE = Anyone()


def as_rule(rule: Rule | Callable[[ClientCertificate], bool] | Anyone) -> Rule:
    """A rule as it is, a callable as a rule. Raises `ConfigurationError` for anything else, and for `async def`."""
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, Anyone):
        rule.refuse()
    if isinstance(rule, type) or not callable(rule):
        raise ConfigurationError(f"{rule!r} is no rule; for example Subject('CN=billing,O=Acme'), or a callable")
    if inspect.iscoroutinefunction(rule) or inspect.iscoroutinefunction(type(rule).__call__):
        raise ConfigurationError(f"{rule!r} is async: a rule answers at once, True or False")
    return Function(rule)
