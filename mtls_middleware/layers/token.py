"""The layer that validates the access token of a request, its binding and its scopes."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from mtls_middleware import binding
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.flow import Decision, Flow, on_behalf_of
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.layers.exemptions import Exemptions
from mtls_middleware.layers.paths import PathSet, checked_root, collection
from mtls_middleware.layers.websocket_lifetime import (
    Recheck,
    WebsocketLifetime,
    check_websocket_lifetime,
    token_recheck,
)
from mtls_middleware.request import RequestView
from mtls_middleware.resource_server import bearer
from mtls_middleware.resource_server import scopes as token_scopes
from mtls_middleware.resource_server.access_tokens import AccessTokens, is_bound_only
from mtls_middleware.resource_server.metadata import ServedDocument, served_document
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.responses import Challenge

if TYPE_CHECKING:
    from mtls_middleware.effects.limits import Shares


class TokenLayer:
    """Validates the access token, its binding to the attached certificate, and its scope."""

    name = "token"
    drop_headers: frozenset[str] = frozenset()
    body_paths: PathSet | None = None
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
        exempt_preflight: bool = False,
        root_path: str | None = None,
        websocket_lifetime: WebsocketLifetime = "certificate",
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
        self._exemptions = Exemptions(exempt, exempt_preflight)
        self.root_path: str | None = checked_root(root_path)
        self._lifetime = check_websocket_lifetime(websocket_lifetime)
        self.published: ServedDocument | None = None
        if isinstance(resource_metadata, Mapping):
            self.published = served_document(resource_metadata)
            resource_metadata = self.published.address
        self.challenge: Challenge = Challenge(
            realm=Challenge().realm if realm is None else realm,
            scopes=tuple(sorted(self._scopes)),
            resource_metadata=resource_metadata,
        )

    @property
    def depends_on_path(self) -> bool:
        """Whether there are different rules for different paths."""
        return bool(self._exemptions.paths) or self.published is not None

    def decide(self, view: RequestView) -> Decision[AccessToken | None]:
        outer = view.attached
        if not outer.has_certificate_layer:
            raise ConfigurationError(
                "CertificateBoundTokenMiddleware found no ClientCertificateMiddleware outside of it: wrap the other "
                "way round, ClientCertificateMiddleware(CertificateBoundTokenMiddleware(app, ...), ...), or protect()"
            )
        exempt = self._exemptions.cover(view)
        try:
            text = bearer.bearer_token(view.headers("authorization"), view.query)
            if outer.certificate is None and (self._binding == "required" or is_bound_only(self._tokens, text)):
                # Nothing is asked of another server about a token that could not be accepted.
                raise Refused("invalid_token", "no client certificate, and only tokens bound to one are accepted")
            found = self._tokens.validate(text, view.now)
            if isinstance(found, AccessToken):
                return self._accepted(found, outer.certificate)
        except Refused as refusal:
            return self._exempted(view, refusal, exempt)
        return self._decide_later(view, found, exempt)

    def _decide_later(self, view: RequestView, flow: Flow[AccessToken], exempt: bool) -> Flow[AccessToken | None]:
        certificate = view.attached.certificate
        try:
            token = yield from on_behalf_of(lambda: _shares(certificate, view), flow)
            return self._accepted(token, certificate)
        except Refused as refusal:
            return self._exempted(view, refusal, exempt)

    def _exempted(self, view: RequestView, refusal: Refused, exempt: bool) -> AccessToken | None:
        if not exempt:
            raise refusal
        outer: AccessToken | None = view.attached.token
        return outer if refusal.code == "missing_token" else None

    def rechecks(self, view: RequestView) -> list[Recheck]:
        """How to decide again about the token that opened a websocket."""
        token: AccessToken | None = view.attached.token
        again = None if token is None else token_recheck(token, self._tokens, self._lifetime)
        return [] if again is None else [again]

    def _accepted(self, token: AccessToken, certificate: ClientCertificate | None) -> AccessToken:
        token = binding.confirmed(token, certificate, self._binding)
        token_scopes.demand(token, self._scopes)
        return token


def _shares(certificate: ClientCertificate | None, view: RequestView) -> "Shares":
    from mtls_middleware.effects.limits import shares  # with the first exchange, for which asyncio is imported

    return shares(certificate, view.peer.address)


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
    return collection("exempt", exempt, '"/health"') | {served_document(resource_metadata).path}
