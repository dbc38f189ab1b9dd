"""The order of decision for a protected resource: certificate, chain, policy; then token, binding, scope.

Must never know: the gateway. Both layers turn a `RequestView` into what is attached, or raise.
"""

import logging
import traceback
from collections.abc import Collection
from dataclasses import replace
from typing import Protocol, TypeVar

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects import Flow
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.paths import Allow, PathRules
from mtls_middleware.refusal import Answer, Challenge, answer
from mtls_middleware.request import Attached, RequestView
from mtls_middleware.resource_server import bearer, binding, scope
from mtls_middleware.resource_server.token import AccessToken

logger = logging.getLogger("mtls_middleware.decision")

T = TypeVar("T")


class Source(Protocol):
    """What `mtls_middleware.sources` offers."""

    @property
    def can_verify(self) -> bool: ...
    @property
    def drop_headers(self) -> frozenset[str]: ...
    @property
    def vary(self) -> str | None: ...
    def find(self, view: RequestView) -> ClientCertificate | None: ...


_SOURCE = ("can_verify", "drop_headers", "vary", "find")


class TrustStore(Protocol):
    """Chain validation in this process: gives the certificate back as `BY_TRUST_STORE`, or raises `Refused`."""

    def validate(self, certificate: ClientCertificate, now: float) -> Flow[ClientCertificate]: ...


class AccessTokens(Protocol):
    """What `mtls_middleware.resource_server` offers: text to token, or `Refused("invalid_token")`, or `Unavailable`."""

    def validate(self, text: str, now: float) -> Flow[AccessToken]: ...


class Challenging(Protocol):
    """Whoever refuses: what its `WWW-Authenticate` says."""

    @property
    def challenge(self) -> Challenge: ...


class Layer(Challenging, Protocol):
    """One layer's decision, as the gateways drive it."""

    @property
    def drop_headers(self) -> frozenset[str]: ...
    @property
    def vary(self) -> str | None: ...
    @property
    def body_paths(self) -> frozenset[str]:
        """The paths where a POST is decided with its body in view, `MAX_BODY` octets at most."""

    def decide(self, view: RequestView) -> Flow[Attached]: ...


class CertificateLayer:
    """Finds, validates and judges the client certificate."""

    challenge = Challenge()
    body_paths: frozenset[str] = frozenset()

    def __init__(
        self,
        source: Source,
        *,
        trust_store: TrustStore | None,
        allow: Allow | None,
        required: bool | None,
        exempt: Collection[str],
    ) -> None:
        if not all(hasattr(source, name) for name in _SOURCE) or isinstance(source, type):  # a text has a find() too
            raise ConfigurationError(
                f"source={source!r} is no source, for example Nginx(trusted_proxies=['10.0.0.0/8']) or ServerTLS()"
            )
        if trust_store is not None and not callable(getattr(trust_store, "validate", None)):
            raise ConfigurationError(f"trust_store={trust_store!r} is no trust store")
        if required not in (True, False, None):
            raise ConfigurationError(f"required={required!r}: True, False or None")
        self.source = source
        self.trust_store = trust_store
        self._allow = None if allow is None else PathRules(allow)
        self._required = (self._allow is not None) if required is None else required
        self._exempt = collection("exempt", exempt, '"/health"')
        self.drop_headers = source.drop_headers
        self.vary = source.vary
        self._check_strength()

    def _check_strength(self) -> None:
        """Refuse a layer that could never let anybody in, before its first request does (case 029)."""
        if self.source.can_verify or self.trust_store is not None:
            return
        advice = "give verify_header=, verified_by_proxy=True (where the proxy refuses all others), or a trust_store"
        if self._allow is not None and not self._allow.may_accept_presented:
            raise ConfigurationError(
                f"allow={self._allow!r} asks for a verified certificate; {self.source!r}: {advice}"
            )
        if self._allow is None and self._required:
            raise ConfigurationError(f"required=True asks for a verified certificate; {self.source!r}: {advice}")

    def decide(self, view: RequestView) -> Flow[Attached]:
        outer = view.attached or Attached()
        try:
            certificate = yield from self._accepted(view, outer.certificate)
        except Refused:
            if view.path not in self._exempt:
                raise
            certificate = None  # what would have been refused, be it what an outer layer attached
        return replace(outer, certificate=certificate, certificate_layer=True)

    def _accepted(self, view: RequestView, outer: ClientCertificate | None) -> Flow[ClientCertificate | None]:
        certificate = self.source.find(view)
        if certificate is None or (certificate == outer and not certificate.verified):
            certificate = outer
        if certificate is None:
            if self._required:
                raise Refused("client_certificate_required", "no client certificate")
            return None
        if self.trust_store is not None:
            certificate = yield from self.trust_store.validate(certificate, view.now)
        if self._allow is not None and not (rule := self._allow.of(view.path)).holds(certificate):
            raise Refused("client_certificate_refused", f"{certificate.thumbprint} is not allowed by {rule!r}")
        if self._required and self._allow is None and not certificate.verified:
            raise Refused("client_certificate_refused", f"{certificate.thumbprint} is merely presented, not verified")
        return certificate


class TokenLayer:
    """Validates the access token, its binding to the attached certificate, and its scope."""

    drop_headers: frozenset[str] = frozenset()
    body_paths: frozenset[str] = frozenset()
    vary: str | None = None

    def __init__(
        self,
        tokens: AccessTokens,
        *,
        scopes: Collection[str],
        binding: binding.Binding,
        exempt: Collection[str],
        realm: str | None,
        resource_metadata: str | None,
    ) -> None:
        if not callable(getattr(tokens, "validate", None)) or isinstance(tokens, type):
            raise ConfigurationError(
                f"tokens={tokens!r}: for example JWTAccessTokens(issuer=..., audience=..., jwks=...)"
            )
        if binding not in ("required", "when_present"):
            raise ConfigurationError(f"binding={binding!r}: 'required' or 'when_present'")
        self._tokens = tokens
        self._binding = binding
        self._scopes = collection("scopes", scopes, '"invoices:read"')
        self._exempt = collection("exempt", exempt, '"/health"')
        self.challenge = Challenge(
            realm=Challenge().realm if realm is None else realm,
            scopes=tuple(sorted(self._scopes)),
            resource_metadata=resource_metadata,
        )

    def decide(self, view: RequestView) -> Flow[Attached]:
        outer = view.attached
        if outer is None or not outer.certificate_layer:
            raise ConfigurationError(
                "CertificateBoundTokenMiddleware found no ClientCertificateMiddleware outside of it: wrap the other "
                "way round, ClientCertificateMiddleware(CertificateBoundTokenMiddleware(app, ...), ...), or protect()"
            )
        token: AccessToken | None
        try:
            token = yield from self._accepted(view, outer.certificate)
        except Refused as refusal:
            if view.path not in self._exempt:
                raise
            token = outer.token if refusal.code == "missing_token" else None
        return replace(outer, token=token)

    def _accepted(self, view: RequestView, certificate: ClientCertificate | None) -> Flow[AccessToken]:
        text = bearer.bearer_token(view.headers("authorization"), view.query)
        token = yield from self._tokens.validate(text, view.now)
        confirmation = binding.confirm(token.claims, certificate, self._binding)
        scope.demand(token, self._scopes)
        return token if confirmation is None else replace(token, bound=True, confirmation=confirmation)


def collection(name: str, given: Collection[T], example: str) -> frozenset[T]:
    """A collection of texts as a set; a single text, which would be a collection of letters, is refused."""
    # An iterator could be read once only: by the check itself, and then nothing would be demanded.
    wrong_kind = isinstance(given, (str, bytes)) or not isinstance(given, Collection)
    if wrong_kind or not all(isinstance(each, str) for each in given):
        raise ConfigurationError(f"{name}={given!r}: a list of texts, for example [{example}]")
    return frozenset(given)


def refuse(layer: Challenging, error: Exception, view: RequestView | None) -> Answer:
    """The answer for what a layer raised, and one record in the log that says why: for the operator alone.

    4xx are a client's doing: INFO. 503 is WARNING, 500 ERROR with the place but without the exception's text, which may
    quote what was being read.
    """
    response = answer(error, layer.challenge)
    evidence = error.evidence if isinstance(error, Refused) else (type(error).__name__,)
    attached = view.attached if view is not None else None
    certificate = attached.certificate if attached is not None else None
    record = {
        "status": response.status,
        "code": error.code if isinstance(error, Refused) else "server_error",
        "evidence": evidence,
        "method": None if view is None else view.method,
        "path": None if view is None else view.path,
        "thumbprint": None if certificate is None else certificate.thumbprint,
    }
    level = logging.INFO if response.status < 500 else logging.WARNING if response.status == 503 else logging.ERROR
    logger.log(
        level, "refused: %s", " ".join(f"{key}={value!a}" for key, value in record.items()), extra={"mtls": record}
    )
    if isinstance(error, ConfigurationError):
        logger.error("%s", error)
    elif response.status == 500:
        logger.error("%s", "".join(traceback.format_tb(error.__traceback__)))
    return response
