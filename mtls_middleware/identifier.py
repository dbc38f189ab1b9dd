"""`Identifier`: a kind of name that can identify a user, such as the user principal name."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError


class _NoValue(str):
    """The type of `NO_VALUE`. A string from a caller, even an empty string, has a different type."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "..."


# The default argument of a rule that may be written without a value: `UserPrincipalName()`.
NO_VALUE: str = _NoValue()


class IdentifierValue(NamedTuple):
    """One value of an identifier in a certificate.

    Attributes:
        canonical_form: the value in the form in which equal values are equal strings; `None` if it equals no value.
        spelling: the value as the certificate has it.
    """

    canonical_form: str | None
    spelling: str


class Identifier:
    """A rule that can be written without its value, as in `UserPrincipalName()`. It then stands for a kind of name.

    `CertificateUser(by=...)` takes a kind of name. `allow=` takes only a rule with its value:
    `allow=UserPrincipalName()` raises `ConfigurationError`, because it would otherwise allow every user.

    Attributes:
        carries_issuer: whether the value contains the issuer's name, or a digest of the whole certificate, so that
            `CertificateUser` does not require `issued_by=`. Two CAs can have the same name: if a trust store has such
            CAs, give `issued_by=` as well.
    """

    carries_issuer: bool = False

    @property
    def lacks_value(self) -> bool:
        """Whether the rule was written without a value, as in `UserPrincipalName()`."""
        return any(isinstance(each, _NoValue) for each in vars(self).values())

    def values(self, certificate: ClientCertificate) -> Iterable[IdentifierValue]:
        """Return all values of this kind in a certificate. Does not check whether the certificate is verified.

        Raises `MalformedCertificate` if the values cannot be read.
        """
        raise NotImplementedError

    def canonical_form(self, value: str) -> str | None:
        """Return the canonical form of a stored value. Two values match if their canonical forms are equal.

        Returns `None` if the stored value can match no value of this kind.

        Example: `UserPrincipalName().canonical_form("alice@CORP.example")` is `"alice@corp.example"`
        """
        raise NotImplementedError


def require_value(rule: Any) -> None:
    """Raise `ConfigurationError` if a rule lacks its value. Example: `require_value(UserPrincipalName())`"""
    if rule.lacks_value:
        raise ConfigurationError(
            f"{type(rule).__name__} without a value is not a rule; expected a value, for example "
            'UserPrincipalName("alice@corp.example"). Only CertificateUser(by=...) takes a kind without a value'
        )
