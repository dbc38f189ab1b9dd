"""Defines rules for client certificates, and combines rules with `&`, `|` and `~`.

The result of a rule is true, false or unknown. The result of a rule about names is unknown if the certificate is not
verified, or if the name cannot be read. The order of combined rules does not change the result.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

from mtls_middleware.anyone import Anyone
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, MalformedCertificate, Refused
from mtls_middleware.identifier import require_value
from mtls_middleware.messages import short_list

# Maximum number of combined rules that a repr, and therefore a log record, shows.
_MAX_SHOWN = 8
# Maximum nesting depth of rules. Rules written by hand have three or four levels. Each level needs several of the 1,000
# stack frames that Python allows by default.
_MAX_DEPTH = 100

# Kleene's three-valued logic: True, False, or None for "unknown".
Result = bool | None


class Rule:
    """The base class of all rules.

    The rules of `mtls_middleware.policy` are objects of its subclasses. `a & b`, `a | b` and `~a` are rules, too. An
    operand of `&` or `|` may also be a function from `ClientCertificate` to `bool`.

    Example:
        >>> from mtls_middleware.policy import DNSName, Subject
        >>> DNSName("billing.internal") | ~Subject("CN=ops,O=Acme")
        AnyOf(DNSName(name='billing.internal'), Not(rule=Subject(name='CN=ops,O=Acme')))
    """

    # Whether the result can be `True` for an unverified certificate. The layer checks this attribute at construction,
    # because some sources never return a verified certificate.
    may_accept_presented = False
    # Whether the result can be `False` for an unverified certificate. The operator `~` exchanges this attribute with
    # `may_accept_presented`.
    may_reject_presented = False
    # Whether the result for a certificate never changes. Only such a result may be cached.
    depends_only_on_certificate: bool = False
    # Whether the rule reads the validated path, so that its result is unknown without a trust store.
    needs_path: bool = False
    # The nesting depth of the rule, which is limited to `_MAX_DEPTH`.
    depth = 1

    @property
    def lacks_value(self) -> bool:
        """Whether this is a kind of name without a value, which is not a rule: see `mtls_middleware.identifier`."""
        return False

    def __init_subclass__(cls) -> None:
        """Reset `depends_only_on_certificate` unless the subclass itself sets the attribute.

        The attribute is not inherited, because a subclass may depend on more data than its base class.
        """
        cls.depends_only_on_certificate = cls.__dict__.get("depends_only_on_certificate", False)

    def judge(self, certificate: ClientCertificate) -> Result:
        """Return `True` if the certificate matches the rule, `False` if it does not, or `None` if this is unknown.

        If this method raises `MalformedCertificate`, the result is unknown. Any other exception is raised to the
        caller, and the layer rejects the request, unless another rule of the combination decides the result.
        """
        raise NotImplementedError

    def holds(self, certificate: ClientCertificate) -> bool:
        """Return whether the certificate is allowed. If the result of the rule is unknown, it is not allowed."""
        try:
            return self.judge(certificate) is True
        except MalformedCertificate:
            return False

    def near_miss(self, certificate: ClientCertificate) -> str | None:  # noqa: ARG002 (most rules have none)
        """Return what to change if the rule almost matches a certificate that it does not allow, or `None`.

        The text is only for the log of a rejection. It contains the rule, and no data of the certificate. Raises
        `MalformedCertificate` if the names cannot be read.
        """
        return None

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
        """Raise `ConfigurationError`, because `rule and other` would silently be `other`."""
        raise ConfigurationError(f"{self!r} has no truth value: combine rules with &, | and ~, not with and, or, not")


@dataclass(frozen=True, repr=False)
class Combination(Rule):
    """Rules combined with one operator. `a | b | c` is one combination of three rules, so its depth is 2."""

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        for rule in self.rules:
            require_value(rule)
        depends_only = type(self).depends_only_on_certificate and all(
            rule.depends_only_on_certificate for rule in self.rules
        )
        object.__setattr__(self, "depends_only_on_certificate", depends_only)
        object.__setattr__(self, "needs_path", any(rule.needs_path for rule in self.rules))
        object.__setattr__(self, "depth", _depth_above(rule.depth - (type(rule) is type(self)) for rule in self.rules))
        flat = (rule.rules if type(rule) is type(self) else (rule,) for rule in self.rules)
        object.__setattr__(self, "rules", tuple(chain.from_iterable(flat)))

    def near_miss(self, certificate: ClientCertificate) -> str | None:
        found = (rule.near_miss(certificate) for rule in self.rules[:_MAX_SHOWN] if not rule.holds(certificate))
        return next((each for each in found if each is not None), None)

    def _combine(self, certificate: ClientCertificate, *, decisive: bool) -> Result:
        """Return `decisive` if one rule has this result.

        If no rule has this result, return `None` (unknown) if the result of any rule is unknown, and `not decisive`
        otherwise. If a rule raises an exception, the other rules are still evaluated, so that the order of the rules
        does not matter.
        """
        combined: Result = not decisive
        failures: list[Exception] = []
        for rule in self.rules:
            try:
                result = rule.judge(certificate)
            except MalformedCertificate:
                result = None
            except Exception as failure:  # noqa: BLE001 (raised below, unless another rule decides)
                failures.append(failure)
                continue
            if result is decisive:
                return decisive
            # Any other object counts as unknown: for example, a coroutine that is not awaited would be truthy.
            if result is not (not decisive):
                combined = None
        if failures:
            raise max(failures, key=_severity)
        return combined

    def __repr__(self) -> str:
        return f"{type(self).__name__}({short_list([*map(repr, self.rules)], _MAX_SHOWN)})"


@dataclass(frozen=True, repr=False)
class All(Combination):
    """The rule `left & right`: the certificate must match both rules."""

    depends_only_on_certificate = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "may_accept_presented", all(each.may_accept_presented for each in self.rules))
        object.__setattr__(self, "may_reject_presented", any(each.may_reject_presented for each in self.rules))
        super().__post_init__()

    def judge(self, certificate: ClientCertificate) -> Result:
        return self._combine(certificate, decisive=False)


@dataclass(frozen=True, repr=False)
class AnyOf(Combination):
    """The rule `left | right`: the certificate must match at least one of the rules."""

    depends_only_on_certificate = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "may_accept_presented", any(each.may_accept_presented for each in self.rules))
        object.__setattr__(self, "may_reject_presented", all(each.may_reject_presented for each in self.rules))
        super().__post_init__()

    def judge(self, certificate: ClientCertificate) -> Result:
        return self._combine(certificate, decisive=True)


@dataclass(frozen=True)
class Not(Rule):
    """The rule `~rule`, which exchanges true and false. If the result of `rule` is unknown, the result is unknown."""

    rule: Rule
    depends_only_on_certificate = True

    def __post_init__(self) -> None:
        require_value(self.rule)
        object.__setattr__(self, "may_accept_presented", self.rule.may_reject_presented)
        object.__setattr__(self, "may_reject_presented", self.rule.may_accept_presented)
        object.__setattr__(
            self,
            "depends_only_on_certificate",
            type(self).depends_only_on_certificate and self.rule.depends_only_on_certificate,
        )
        object.__setattr__(self, "needs_path", self.rule.needs_path)
        object.__setattr__(self, "depth", _depth_above([self.rule.depth]))

    def judge(self, certificate: ClientCertificate) -> Result:
        result = self.rule.judge(certificate)
        return not result if isinstance(result, bool) else None


def _severity(failure: Exception) -> tuple[bool, str]:
    """Return a sort key for exceptions, so that the raised exception does not depend on the order of the rules.

    An error in a rule takes precedence over a `Refused` such as `Unavailable`. Equal exceptions are sorted by the name
    of their class.
    """
    return not isinstance(failure, Refused), type(failure).__name__


def _depth_above(depths: Iterable[int]) -> int:
    depth = 1 + max(depths)
    if depth > _MAX_DEPTH:
        raise ConfigurationError(
            f"rules are nested more than {_MAX_DEPTH} levels deep; expected fewer levels: combine rules with the same "
            "operator first, for example (a | b | c) & d"
        )
    return depth


class Identity(Rule):
    """A rule about names. Its result is unknown unless the certificate is verified and the names can be read."""

    def matches(self, certificate: ClientCertificate) -> bool:
        """Return whether the names match. This method does not check whether the certificate is verified.

        Raises `MalformedCertificate` if the names cannot be read.
        """
        raise NotImplementedError

    def judge(self, certificate: ClientCertificate) -> Result:
        return self.match_result(certificate) if certificate.verified else None

    def near_miss(self, certificate: ClientCertificate) -> str | None:
        if not certificate.verified and self.match_result(certificate):
            return (
                f"the certificate matches {self!r}, but it is only presented, not verified: give the source a "
                "verify_header= or verified_by_proxy=True, or the layer a trust_store="
            )
        return None

    def match_result(self, certificate: ClientCertificate) -> Result:
        """Return the result of `matches`, or `None` (unknown) if the names cannot be read."""
        try:
            return _bool_or_unknown(self.matches(certificate))
        except MalformedCertificate:
            return None


def _bool_or_unknown(value: object) -> Result:
    """Return `value` if it is `True` or `False`, and `None` (unknown) for any other object.

    For example, a coroutine that is not awaited would be truthy.
    """
    if value is True or value is False:
        return value
    if inspect.iscoroutine(value):
        value.close()
    return None


@dataclass(frozen=True)
class Function(Identity):
    """A rule that calls a function with the certificate. The function is not called for an unverified certificate."""

    function: Callable[[ClientCertificate], bool]

    def matches(self, certificate: ClientCertificate) -> bool:
        return self.function(certificate)

    def near_miss(self, certificate: ClientCertificate) -> str | None:  # noqa: ARG002 (no call only to explain)
        return None


class Presented(Rule):
    """Applies `rule` to unverified certificates as well as to verified certificates.

    Be careful: a client can choose the names in an unverified certificate.

    Example: `Presented(lambda certificate: certificate.thumbprint in registered)`
    """

    may_accept_presented = True
    may_reject_presented = True
    depends_only_on_certificate: bool = True

    def __init__(self, rule: Identity | Callable[[ClientCertificate], bool]) -> None:
        inner = as_rule(rule)
        if not isinstance(inner, Identity):
            raise ConfigurationError(
                f"Presented({rule!r}): expected one rule about names or one function; combine the results, for example "
                "Presented(a) & Presented(b)"
            )
        self._rule = inner
        self.needs_path: bool = inner.needs_path
        depends_only = type(self).depends_only_on_certificate and inner.depends_only_on_certificate
        self.depends_only_on_certificate = depends_only

    def judge(self, certificate: ClientCertificate) -> Result:
        return self._rule.match_result(certificate)

    def __repr__(self) -> str:
        return f"Presented({self._rule!r})"


def as_rule(rule: Rule | Callable[[ClientCertificate], bool] | Anyone) -> Rule:
    """Return a rule unchanged, or convert a function to a rule.

    Raises `ConfigurationError` for any other object, for an `async` function, and for a rule without its value.

    Example:
        >>> isinstance(as_rule(lambda certificate: certificate.serial_number > 0), Rule)
        True
    """
    if isinstance(rule, Rule):
        require_value(rule)
        return rule
    if isinstance(rule, Anyone):
        rule.raise_error()
    if isinstance(rule, type) or not callable(rule):
        raise ConfigurationError(
            f"{rule!r} is not a rule; expected a rule, for example Subject('CN=billing,O=Acme'), or a function"
        )
    if inspect.iscoroutinefunction(rule) or inspect.iscoroutinefunction(type(rule).__call__):
        raise ConfigurationError(f"{rule!r} is async; expected a function that returns True or False")
    return Function(rule)


def near_miss(rule: Rule, certificate: ClientCertificate) -> str | None:
    """Return what to change if the rule almost matches the certificate, or `None`. Raises nothing.

    Example: `near_miss(Subject("O=Acme,CN=billing"), certificate)`
    """
    try:
        return rule.near_miss(certificate)
    except Exception:  # noqa: BLE001 (an explanation for the log changes no response)
        return None
