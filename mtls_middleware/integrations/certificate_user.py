"""`CertificateUser`: which name in the client certificate identifies the user, and which authority may assert it.

This module imports no framework.
"""

import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Generic, TypeVar, overload

from cryptography import x509

from mtls_middleware.accessors import AnyRequest, carrier
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver, Call, Flow, ask
from mtls_middleware.errors import ConfigurationError, MalformedCertificate, Refused
from mtls_middleware.identifier import Identifier
from mtls_middleware.layers.allowance import require_allowed
from mtls_middleware.layers.attached import ATTACHED_KEY, Attached
from mtls_middleware.line_limit import LineLimit, raised_at
from mtls_middleware.policy.issued_by import IssuedBy
from mtls_middleware.rule import AnyOf, Rule

User = TypeVar("User")
Authority = str | PathLike[str] | x509.Certificate | IssuedBy

logger: logging.Logger = logging.getLogger("mtls_middleware.user")
_lines = LineLimit()

_EXAMPLE = 'CertificateUser(by=UserPrincipalName(), issued_by="staff-ca.pem")'
_NO_PATH = "issued_by= needs a path from a trust store: give the layer trust_store="
_OTHER_AUTHORITY = "if this authority may assert the name, add its certificate to issued_by="


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """The name that identifies the user of a verified certificate.

    Attributes:
        name: the name in its canonical form, for example `"alice@corp.example"`. Two certificates
            identify the same user if and only if their names are equal strings.
        spelling: the name as the certificate has it, for example `"alice@CORP.example"`.
        certificate: the certificate.

    It is the user of a `CertificateUser` without `look_up`.

    Example: `users.identify(client_certificate(request)).name`
    """

    name: str
    spelling: str = field(compare=False)
    certificate: ClientCertificate = field(compare=False)

    @property
    def is_authenticated(self) -> bool:
        """Always `True`. Starlette and Flask-Login read it."""
        return True

    @property
    def is_active(self) -> bool:
        """Always `True`. Flask-Login reads it."""
        return True

    @property
    def is_anonymous(self) -> bool:
        """Always `False`. Flask-Login reads it."""
        return False

    def get_id(self) -> str:
        """Return the name. Flask-Login calls this method."""
        return self.name

    @property
    def display_name(self) -> str:
        """The name as the certificate has it. Starlette's `BaseUser` has this property, too."""
        return self.spelling

    @property
    def identity(self) -> str:
        """The name in its canonical form. Starlette's `BaseUser` has this property, too."""
        return self.name


class CertificateUser(Generic[User]):
    """Says which name in the certificate identifies the user, and which authority may assert this name.

    Arguments:
        by: the kind of name, a rule of `mtls_middleware.policy` without its value: `UserPrincipalName()`, `Email()`,
            `SubjectAttribute("serialNumber")`, `Subject()`, `URI()`, `DNSName()`, `SpiffeID()`, `Thumbprint()` or
            `IssuerAndSerialNumber()`. Names are compared as the rule compares them.
        issued_by: the CA that may assert the name, as in `policy.IssuedBy`: a PEM file with one CA certificate, or a
            `cryptography` certificate, or the rule itself; or a list of them. The layer then needs a `trust_store`. It
            may be omitted only for `Thumbprint()` and `IssuerAndSerialNumber()`: any other trusted CA could issue the
            other names.
        look_up: a function, plain or `async`, that takes a `CertificateIdentity` and returns the user of the
            application, or `None` if it has no such user. Without it, the `CertificateIdentity` is the user.

    A certificate identifies no user if it is not verified, if it was not issued by `issued_by`, if it lacks the name,
    if it has two different values of the name, or if the name cannot be read. No other name is tried.

    Raises `ConfigurationError` at construction.

    Example: `CertificateUser(by=UserPrincipalName(), issued_by="staff-ca.pem")`
    """

    @overload
    def __init__(
        self: "CertificateUser[CertificateIdentity]",
        *,
        by: Identifier,
        issued_by: Authority | Sequence[Authority] | None = None,
        look_up: None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        *,
        by: Identifier,
        issued_by: Authority | Sequence[Authority] | None = None,
        look_up: Callable[[CertificateIdentity], Awaitable[User | None]],
    ) -> None: ...
    @overload
    def __init__(
        self,
        *,
        by: Identifier,
        issued_by: Authority | Sequence[Authority] | None = None,
        look_up: Callable[[CertificateIdentity], User | None],
    ) -> None: ...
    def __init__(
        self,
        *,
        by: Identifier,
        issued_by: Authority | Sequence[Authority] | None = None,
        look_up: Callable[[CertificateIdentity], Any] | None = None,
    ) -> None:
        self.by: Identifier = _checked_kind(by)
        self._rule = None if issued_by is None else _authorities(issued_by)
        if issued_by is None and not by.carries_issuer:
            raise ConfigurationError(
                f"CertificateUser(by={by!r}) without issued_by=: any trusted CA could issue this name. Give the CA "
                f"that may assert it, for example {_EXAMPLE}; or use a name that carries its issuer, Thumbprint() or "
                "IssuerAndSerialNumber()"
            )
        if look_up is not None and (isinstance(look_up, type) or not callable(look_up)):
            raise ConfigurationError(
                f"look_up={look_up!r}: expected a function that takes a CertificateIdentity, for example "
                "lambda identity: users.get(identity.name)"
            )
        self._look_up: Callable[[CertificateIdentity], Any] = _itself if look_up is None else look_up
        self._blocking, self._awaiting = BlockingDriver(), AwaitingDriver()

    @property
    def needs_path(self) -> bool:
        """Whether the layer needs a `trust_store`, because the issuer is checked in the validated path."""
        return self._rule is not None

    @property
    def has_look_up(self) -> bool:
        """Whether the application gave the function `look_up`."""
        return self._look_up is not _itself

    @property
    def is_async(self) -> bool:
        """Whether `look_up` is a coroutine function, so that only `afind` can call it."""
        function = self._look_up
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)

    def identify(self, certificate: ClientCertificate | None) -> CertificateIdentity | None:
        """Return the name that identifies the user of a certificate, or `None` if no name identifies a user.

        The logger `mtls_middleware.user` logs the reason: the first time for each cause as WARNING.

        Example: `users.identify(client_certificate(request))`
        """
        if certificate is None:
            return None
        try:
            return self._identity(certificate)
        except Refused as refusal:
            _log(certificate, refusal)
            return None

    def find(self, request: AnyRequest) -> User | None:
        """Return the user of this request, or `None`.

        Do not keep the result for the next request, which may have another user.

        `request`: as for `client_certificate`. Raises `ConfigurationError` if the request did not pass through a layer
        of `mtls_middleware`, or if `look_up` is `async`. An exception of `look_up` is raised to the caller.

        Example: `user = users.find(flask.request)`
        """
        return self._blocking.run(self._user(request))

    async def afind(self, request: AnyRequest) -> User | None:
        """Return the user of this request, or `None`, like `find`. `look_up` may be `async`.

        A plain `look_up` that does I/O blocks the event loop.

        Example: `user = await users.afind(request)`
        """
        return await self._awaiting.run(self._user(request))

    def canonical_form(self, name: str) -> str | None:
        """Return a stored name in the form of `CertificateIdentity.name`; `None` if it equals no name.

        Example: `users.canonical_form("alice@CORP.example")` is `"alice@corp.example"`
        """
        return self.by.canonical_form(name)

    def user_of(self, identity: CertificateIdentity) -> User | None:
        """Return the user with this identity, or `None`: the result of `look_up`. Raises the same exceptions as `find`.

        Example: `users.user_of(identity)`
        """
        return self._blocking.run(self._found(identity))

    async def auser_of(self, identity: CertificateIdentity) -> User | None:
        """Return the user with this identity, or `None`, like `user_of`. `look_up` may be `async`.

        Example: `await users.auser_of(identity)`
        """
        return await self._awaiting.run(self._found(identity))

    def _user(self, request: AnyRequest) -> Flow[User | None]:
        identity = self.identify(certificate_of(request))
        return None if identity is None else (yield from self._found(identity))

    def _found(self, identity: CertificateIdentity) -> Flow[User | None]:
        found: User | None = yield from ask(Call(self._look_up, (identity,)))
        return found

    def _identity(self, certificate: ClientCertificate) -> CertificateIdentity:
        require_allowed(None, certificate)
        if self._rule is not None and not self._rule.holds(certificate):
            raise Refused(
                "client_certificate_refused",
                "it was not issued by the CA of issued_by=",
                advice=_OTHER_AUTHORITY if certificate.path else _NO_PATH,
            )
        values = list(self.by.values(certificate))
        if not values:
            raise MalformedCertificate(f"it has no value of {self.by!r}")
        forms = {each.canonical_form for each in values}
        if None in forms:
            raise MalformedCertificate(f"a value of {self.by!r} cannot be compared")
        if len(forms) > 1:
            raise MalformedCertificate(f"it has {len(forms)} different values of {self.by!r}; expected one")
        return CertificateIdentity(values[0].canonical_form or "", values[0].spelling, certificate)

    def __repr__(self) -> str:
        return f"CertificateUser(by={self.by!r}{', issued_by=...' if self._rule is not None else ''})"


def certificate_of(request: AnyRequest) -> ClientCertificate | None:
    """Return the client certificate that the layers attached to this request, or `None`.

    Raises `ConfigurationError` if the request did not pass through a layer, so that a forgotten layer is noticed.

    Example: `certificate_of(request)`
    """
    attached = carrier(request).get(ATTACHED_KEY)
    if not isinstance(attached, Attached):
        raise ConfigurationError(
            "the request did not pass through a certificate layer of mtls_middleware: wrap the whole application, for "
            "example protect(app, source=Nginx(...), trust_store=...)"
        )
    return attached.certificate


def _itself(identity: CertificateIdentity) -> CertificateIdentity:
    return identity


def _checked_kind(by: object) -> Identifier:
    if isinstance(by, Identifier) and by.lacks_value:
        return by
    reason = "the rule has a value: omit it" if isinstance(by, Identifier) else "expected a kind of name"
    raise ConfigurationError(
        f"CertificateUser(by={by!r}): {reason}, for example UserPrincipalName(), Email(), "
        'SubjectAttribute("serialNumber") or Thumbprint()'
    )


def _authorities(issued_by: Authority | Sequence[Authority]) -> Rule:
    given = [issued_by] if isinstance(issued_by, (str, PathLike, x509.Certificate, IssuedBy)) else issued_by
    if not isinstance(given, (list, tuple)) or not given:
        raise ConfigurationError(
            f"issued_by={issued_by!r}: expected a PEM file with a CA certificate, or a list of them, for example "
            "'staff-ca.pem'"
        )
    return AnyOf(tuple(each if isinstance(each, IssuedBy) else IssuedBy(each) for each in given))


def _log(certificate: ClientCertificate, refusal: Refused) -> None:
    """Log why a certificate identifies no user: the first time for each cause as WARNING, later with level INFO."""
    cause = (refusal.code, refusal.advice or raised_at(refusal))
    is_first = _lines.is_first(cause)
    if _lines.admit(cause, time.time()) is None:
        return
    logger.log(
        logging.WARNING if is_first else logging.INFO,
        "certificate %s identifies no user: %s%s",
        certificate.thumbprint,
        "; ".join(refusal.evidence),
        f"; what to change: {refusal.advice}" if refusal.advice else "",
    )
