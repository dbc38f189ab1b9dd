"""`TokenLayer`: validates the access token of a request, its binding to the certificate, and its scopes."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mtls_middleware import binding, options
from mtls_middleware.cache import Cache, caches_of
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.flow import Flow, on_behalf_of
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.layers.absence import with_absence
from mtls_middleware.layers.decision_cache import check_cache_size
from mtls_middleware.layers.exemptions import Exemptions
from mtls_middleware.layers.interface import Facts, LayerRequest, Route
from mtls_middleware.layers.paths import PathSet, checked_root
from mtls_middleware.layers.websocket_lifetime import Recheck, WebsocketLifetime, check_websocket_lifetime
from mtls_middleware.path_readings import same_for_all_readings
from mtls_middleware.resource_server import bearer
from mtls_middleware.resource_server import scopes as token_scopes
from mtls_middleware.resource_server.access_tokens import AccessTokens, is_bound_only
from mtls_middleware.resource_server.claims import check_expiry
from mtls_middleware.resource_server.metadata import ServedDocument, served_document
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.responses import Challenge, LayerResponse
from mtls_middleware.reusable import Reusable, decide, once, opts_in

if TYPE_CHECKING:
    from mtls_middleware.effects.limits import Shares


class TokenLayer:
    """Attaches the access token, and rejects requests without an acceptable token (RFC 8705 section 3)."""

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
        cache_size: int | None = None,
        schemes: Sequence[bearer.Scheme] = ("Bearer",),
    ) -> None:
        options.object_with_method("tokens", tokens, "validate", "JWTAccessTokens(issuer=..., audience=..., jwks=...)")
        options.one_of("binding", binding, ("required", "when_present"))
        self._tokens = tokens
        self.caches: tuple[Cache[Any, Any], ...] = caches_of(tokens)
        self.cache_size: int | None = check_cache_size(cache_size)
        self._binding = binding
        self._schemes: tuple[bearer.Scheme, ...] = bearer.checked_schemes(schemes)
        self._scopes = options.strings("scopes", scopes, '"invoices:read"')
        self._exemptions = Exemptions(exempt, exempt_preflight)
        self.root_path: str | None = checked_root(root_path)
        self._lifetime = check_websocket_lifetime(websocket_lifetime)
        self.published: ServedDocument | None = None
        if isinstance(resource_metadata, Mapping):
            self.published = served_document(resource_metadata)
            resource_metadata = self.published.address
        self.challenge: Challenge = Challenge(
            schemes=self._schemes,
            realm=Challenge().realm if realm is None else realm,
            scopes=tuple(sorted(self._scopes)),
            resource_metadata=resource_metadata,
        )
        self.facts: Facts | None = Facts(credentials=True) if opts_in(tokens) else None
        self.fixed_route: Route | None = None if self._exemptions or self.published is not None else Route()

    @property
    def depends_on_path(self) -> bool:
        """Whether different paths have different rules."""
        return bool(self._exemptions.paths) or self.published is not None

    def document(self, request: LayerRequest) -> LayerResponse | None:
        """Return the resource's metadata (RFC 9728 section 3) if this request is for it; otherwise `None`.

        Raises `Refused` for a POST.
        """
        published = self.published
        if published is None or not same_for_all_readings(request.location, lambda path: path == published.path):
            return None
        if request.method not in ("GET", "HEAD"):
            raise Refused(
                "read_only", f"the method is {request.method}; the metadata document accepts only GET and HEAD"
            )
        return published.response

    def route(self, request: LayerRequest) -> Route:
        return Route(self._exemptions.cover(request))

    def decide(self, request: LayerRequest, route: Route) -> Flow[Reusable[AccessToken | None]]:
        if not request.attached.has_certificate_layer:
            raise ConfigurationError(
                "CertificateBoundTokenMiddleware found no ClientCertificateMiddleware outside of it: exchange the two "
                "layers, ClientCertificateMiddleware(CertificateBoundTokenMiddleware(app, ...), ...), or use protect()"
            )
        if not route.exempt:
            return (yield from self._decide(request))
        try:
            decided = yield from self._decide(request)
        except Refused as refusal:
            return once(request.attached.token if refusal.code == "missing_token" else None)
        return once(decided.value)

    def _decide(self, request: LayerRequest) -> Flow[Reusable[Any]]:
        certificate = request.attached.certificate
        scheme, text = bearer.presented_token(request.headers("authorization"), request.query, self._schemes)
        # The scheme `mtls_pop` means that the token is bound.
        is_bound = self._binding == "required" or scheme == "mtls_pop"
        if certificate is None and (is_bound or is_bound_only(self._tokens, text)):
            # Reject the token before any request to another server, if it could not be accepted in any case.
            refusal = Refused("invalid_token", "no client certificate, and only tokens bound to one are accepted")
            raise with_absence(refusal, request.attached)
        client = partial(_shares, certificate, request)
        validated = yield from on_behalf_of(client, decide(self._tokens, text, request.now))
        if not isinstance(validated.value, AccessToken):  # a validator of the user may return any object
            raise TypeError(f"expected an AccessToken, got a {type(validated.value).__name__}")
        token, checks = validated.value, validated.checks
        try:
            confirmation = binding.confirm(token.claims, certificate, "required" if is_bound else self._binding)
        except Refused as refusal:
            raise with_absence(refusal, request.attached) if certificate is None else refusal from None
        if confirmation is not None and certificate is not None:
            token = token.bound_by(confirmation.thumbprint)
            checks += (confirmation.check(certificate),)
        token_scopes.require_scopes(token, self._scopes)
        return Reusable(token, validated.begins, validated.ends, checks, validated.cost)

    def rechecks(self, request: LayerRequest) -> list[Recheck]:
        """Return the functions that check the token of an open websocket again."""
        token = request.attached.token
        again = None if token is None else _token_recheck(token, self._tokens, self._lifetime)
        return [] if again is None else [again]


def _token_recheck(token: AccessToken, tokens: object, lifetime: WebsocketLifetime) -> Recheck | None:
    """A function that checks the token again, or only the certificate that it is bound to; `None` if not needed.

    `tokens`: the validator. If it has no method `check_later`, the token expires at its `expires_at`, without leeway.
    """
    if lifetime == "connection":
        return None
    check = getattr(tokens, "check_later" if lifetime == "credentials" else "check_certificate_later", None)
    if callable(check):
        return partial(check, token)
    return partial(check_expiry, token) if lifetime == "credentials" else None


def _shares(certificate: ClientCertificate | None, request: LayerRequest) -> "Shares":
    # Imported at the first exchange, because the module imports asyncio.
    from mtls_middleware.effects.limits import shares

    return shares(certificate, request.origin)
