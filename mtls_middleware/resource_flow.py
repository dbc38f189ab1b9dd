"""The order of decision for a protected resource: certificate, chain, policy; then token, binding, scope.

Must never know: the gateway. Both layers turn a `RequestView` into what is attached, or raise.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mtls_middleware import records
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects import Decision, Flow, on_behalf_of
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.paths import Allow, PathRules
from mtls_middleware.refusal import Answer, Challenge
from mtls_middleware.request import RequestView
from mtls_middleware.resource_server import bearer, binding, scope
from mtls_middleware.resource_server.metadata import Published, published
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.sources.vendors import KNOWN_HEADERS

if TYPE_CHECKING:
    from mtls_middleware.turns import Shares

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

    def validate(self, certificate: ClientCertificate, now: float) -> Decision[ClientCertificate]: ...


class AccessTokens(Protocol):
    """What `mtls_middleware.resource_server` offers: text to token, or `Refused("invalid_token")`, or `Unavailable`."""

    def validate(self, text: str, now: float) -> Decision[AccessToken]: ...


class Layer(records.Layer, Protocol):
    """One layer's decision, as the gateways drive it. `name` is also that of what it finds, in `Attached`."""

    @property
    def drop_headers(self) -> frozenset[str]:
        """Field names, lower case with dashes, that the application must not see in any spelling."""

    @property
    def vary(self) -> str | None: ...
    @property
    def body_paths(self) -> frozenset[str]:
        """The paths where a POST is decided with its body in view, `MAX_BODY` octets at most."""

    @property
    def published(self) -> Published | None:
        """A document that the layer itself answers with, whoever asks for it."""

    def decide(self, view: RequestView) -> Decision[Any]:
        """What is to be attached. Raises `Refused`, and whatever else goes wrong."""


class CertificateLayer:
    """Finds, validates and judges the client certificate."""

    name = "certificate"
    challenge = Challenge()
    body_paths: frozenset[str] = frozenset()
    published: Published | None = None

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
                f"source={source!r} is not a source; expected for example ServerTLS(), or "
                "Nginx(trusted_proxies=['10.0.0.0/8'], shared_secret=('MtlsProxySecret', os.environ['...']))"
            )
        if trust_store is not None and not callable(getattr(trust_store, "validate", None)):
            raise ConfigurationError(f"trust_store={trust_store!r} is no trust store")
        if required not in (True, False, None):
            raise ConfigurationError(f"required={required!r}: True, False or None")
        self.source = source
        self.trust_store = trust_store
        self._allow = None if allow is None else PathRules(allow)
        self._required = (self._allow is not None) if required is None else required
        # Where neither time nor path plays a part, a certificate that was accepted once is accepted again.
        self._is_lasting = trust_store is None and (self._allow is None or self._allow.is_lasting)
        self._verdict = object()
        self._exempt = collection("exempt", exempt, '"/health"')
        self.drop_headers = KNOWN_HEADERS | source.drop_headers
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

    def decide(self, view: RequestView) -> Decision[ClientCertificate | None]:
        try:
            certificate = self.source.find(view)
            outer = view.attached.certificate
            if outer is None and type(certificate) is ClientCertificate and self._verdict in certificate.verdicts:
                return certificate
            found = self._accepted(view, certificate, outer)
        except Refused as refusal:
            self._check_exempt(view, refusal)
            return None
        return found if found is None or isinstance(found, ClientCertificate) else self._decide_later(view, found)

    def _decide_later(self, view: RequestView, flow: Flow[ClientCertificate | None]) -> Flow[ClientCertificate | None]:
        try:
            return (yield from flow)
        except Refused as refusal:
            self._check_exempt(view, refusal)
            return None

    def _check_exempt(self, view: RequestView, refusal: Refused) -> None:
        """Raise it, but on exempt paths: what an outer layer found is `None` there too."""
        if view.path not in self._exempt:
            raise refusal

    def _accepted(
        self, view: RequestView, certificate: ClientCertificate | None, outer: ClientCertificate | None
    ) -> Decision[ClientCertificate | None]:
        if certificate is None or (outer is not None and certificate == outer and not certificate.verified):
            certificate = outer
        if certificate is None:
            if self._required:
                raise Refused("client_certificate_required", "no client certificate")
            return None
        if self.trust_store is None:
            return self._allowed(view, certificate)
        validated = self.trust_store.validate(certificate, view.now)
        if isinstance(validated, ClientCertificate):
            return self._allowed(view, validated)
        return self._allowed_later(view, validated)

    def _allowed_later(self, view: RequestView, flow: Flow[ClientCertificate]) -> Flow[ClientCertificate | None]:
        return self._allowed(view, (yield from flow))

    def _allowed(self, view: RequestView, certificate: ClientCertificate) -> ClientCertificate:
        if not isinstance(certificate, ClientCertificate):  # a source or trust store of somebody else's: no pass
            raise TypeError(f"a {type(certificate).__name__} is no certificate")
        if self._allow is not None:
            self._allow.judge(view, certificate)
        elif self._required and not certificate.verified:
            raise Refused("client_certificate_refused", f"{certificate.thumbprint} is merely presented, not verified")
        if self._is_lasting:
            certificate.verdicts[self._verdict] = True
        return certificate


class TokenLayer:
    """Validates the access token, its binding to the attached certificate, and its scope."""

    name = "token"
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
        resource_metadata: str | Mapping[str, Any] | None,
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
        self.published: Published | None = None
        if isinstance(resource_metadata, Mapping):
            self.published = published(resource_metadata)
            resource_metadata = self.published.address
        self.challenge = Challenge(
            realm=Challenge().realm if realm is None else realm,
            scopes=tuple(sorted(self._scopes)),
            resource_metadata=resource_metadata,
        )

    def decide(self, view: RequestView) -> Decision[AccessToken | None]:
        outer = view.attached
        if not outer.has_certificate_layer:
            raise ConfigurationError(
                "CertificateBoundTokenMiddleware found no ClientCertificateMiddleware outside of it: wrap the other "
                "way round, ClientCertificateMiddleware(CertificateBoundTokenMiddleware(app, ...), ...), or protect()"
            )
        try:
            text = bearer.bearer_token(view.headers("authorization"), view.query)
            if outer.certificate is None and (
                self._binding == "required" or getattr(self._tokens, "bound_only", False)
            ):
                # Nothing is asked of another server about a token that could not be accepted.
                raise Refused("invalid_token", "no client certificate, and only tokens bound to one are accepted")
            found = self._tokens.validate(text, view.now)
            if isinstance(found, AccessToken):
                return self._accepted(found, outer.certificate)
        except Refused as refusal:
            return self._exempted(view, refusal)
        return self._decide_later(view, found)

    def _decide_later(self, view: RequestView, flow: Flow[AccessToken]) -> Flow[AccessToken | None]:
        certificate = view.attached.certificate
        try:
            token = yield from on_behalf_of(lambda: _shares(certificate, view), flow)
            return self._accepted(token, certificate)
        except Refused as refusal:
            return self._exempted(view, refusal)

    def _exempted(self, view: RequestView, refusal: Refused) -> AccessToken | None:
        if view.path not in self._exempt:
            raise refusal
        outer: AccessToken | None = view.attached.token
        return outer if refusal.code == "missing_token" else None

    def _accepted(self, token: AccessToken, certificate: ClientCertificate | None) -> AccessToken:
        token = binding.confirmed(token, certificate, self._binding)
        scope.demand(token, self._scopes)
        return token


def _shares(certificate: ClientCertificate | None, view: RequestView) -> "Shares":
    from mtls_middleware.turns import shares  # with the first exchange, for which asyncio is imported

    return shares(certificate, view.peer.address if certificate is None else None)


def does_more(layer: Layer) -> bool:
    """Whether the layer is to be asked for a document, or wants to see bodies: few do."""
    return layer.published is not None or bool(layer.body_paths)


def document(layer: Layer, view: RequestView) -> Answer | None:
    """What the layer publishes, where this request asks for it: no token, and no application, has to do with that."""
    if layer.published is None or view.path != layer.published.path:
        return None
    if view.method not in ("GET", "HEAD"):
        raise Refused("read_only", f"{view.method} of a document")
    return layer.published.answer


def collection(name: str, given: Collection[T], example: str) -> frozenset[T]:
    """A collection of texts as a set; a single text, which would be a collection of letters, is refused."""
    # An iterator could be read once only: by the check itself, and then nothing would be demanded.
    wrong_kind = isinstance(given, (str, bytes)) or not isinstance(given, Collection)
    if wrong_kind or not all(isinstance(each, str) for each in given):
        raise ConfigurationError(f"{name}={given!r}: a list of texts, for example [{example}]")
    return frozenset(given)


def check_without_tokens(*, scopes: Collection[str], resource_metadata: object) -> None:
    """What `protect` cannot do without `tokens`. Raises `ConfigurationError`."""
    if scopes:
        raise ConfigurationError(f"scopes={scopes!r} without tokens=: scopes are read from access tokens")
    if resource_metadata is not None:
        raise ConfigurationError("resource_metadata= without tokens=: it tells clients where to get tokens")


def with_published(exempt: Collection[str], resource_metadata: str | Mapping[str, Any] | None) -> Collection[str]:
    """The exempt paths of the layer outside of one that serves this document."""
    if not isinstance(resource_metadata, Mapping):
        return exempt
    return collection("exempt", exempt, '"/health"') | {published(resource_metadata).path}
