"""`NameRule`: the base class of the rules for the contents of a certificate."""

from collections.abc import Iterable

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.rule import Identity, Rule


class NameRule(Identity):
    """The base class of rules that depend only on names in the certificate."""

    depends_only_on_certificate: bool = False

    def near_miss(self, certificate: ClientCertificate) -> str | None:
        return super().near_miss(certificate) or self._difference(certificate)

    def _difference(self, certificate: ClientCertificate) -> str | None:  # noqa: ARG002 (most rules have none)
        """Return what to change if a name in the certificate is the name of this rule in a different spelling.

        Otherwise, return `None`.
        """
        return None

    def __init_subclass__(cls) -> None:
        """Set `depends_only_on_certificate` for the direct subclasses, which are the rules of this package.

        Subclasses of those rules must declare it themselves.
        """
        declared = cls.__dict__.get("depends_only_on_certificate", NameRule in cls.__bases__)
        cls.depends_only_on_certificate = declared


def case_advice(rule: Rule, expected: str, found: Iterable[str]) -> str | None:
    """Return what to change if a name in the certificate differs from `expected` only in case, or `None`.

    Example: `case_advice(rule, "urn:acme", certificate.uris)`
    """
    if expected.lower() not in (each.lower() for each in found):
        return None
    return f"{rule!r} differs from the certificate only in upper and lower case: write it as in the certificate"
