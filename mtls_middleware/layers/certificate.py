"""`CertificateLayer`: finds and validates the client certificate of a request, and applies the rule."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from mtls_middleware import options
from mtls_middleware.anyone import Anyone
from mtls_middleware.cache import Cache, caches_of
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.certificate_memory import extra_bytes
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import NO_CERTIFICATE, ConfigurationError, Refused
from mtls_middleware.layers.absence import reason, with_absence
from mtls_middleware.layers.allowance import require_allowed
from mtls_middleware.layers.decision_cache import check_cache_size
from mtls_middleware.layers.exemptions import Exemptions
from mtls_middleware.layers.interface import Facts, LayerRequest, Route
from mtls_middleware.layers.paths import Allow, PathRules, PathSet, checked_root
from mtls_middleware.layers.websocket_lifetime import (
    Recheck,
    WebsocketLifetime,
    certificate_recheck,
    check_websocket_lifetime,
)
from mtls_middleware.responses import Challenge, LayerResponse
from mtls_middleware.reusable import Check, Reusable, decide, once, opts_in
from mtls_middleware.rule import Rule
from mtls_middleware.sources.source import MEMBERS, Source
from mtls_middleware.sources.vendors import KNOWN_HEADERS
from mtls_middleware.validation.chain_validator import ChainValidator
from mtls_middleware.validity import (
    CLOCK_SKEW,
    Validity,
    check_clock_skew,
    check_validity,
    require_valid,
    with_clock_skew,
)


class CertificateLayer:
    """Attaches the client certificate, and rejects requests without an acceptable certificate."""

    name = "certificate"
    challenge: Challenge = Challenge()
    body_paths: PathSet | None = None

    def __init__(
        self,
        source: Source,
        *,
        trust_store: ChainValidator | None,
        allow: Allow | None,
        required: bool | None,
        exempt: Collection[str],
        exempt_preflight: bool = False,
        root_path: str | None = None,
        clock_skew: float = CLOCK_SKEW,
        validity: Validity = "each_request",
        websocket_lifetime: WebsocketLifetime = "certificate",
        cache_size: int | None = None,
    ) -> None:
        # Strings also have a method `find`.
        if not all(hasattr(source, name) for name in MEMBERS) or isinstance(source, type):
            raise ConfigurationError(
                f"source={source!r} is not a source; expected a source, for example ServerTLS(), or "
                "Nginx(trusted_proxies=['10.0.0.0/8'], shared_secret=('MtlsProxySecret', os.environ['...']))"
            )
        if trust_store is not None:
            options.object_with_method("trust_store", trust_store, "validate", "TrustStore(['clients-ca.pem'])")
        if required is not None and not isinstance(required, bool):  # `0 == False`, so compare by identity
            raise ConfigurationError(f"required={required!r}: expected True, False or None")
        self.source = source
        self.trust_store = trust_store
        self._clock_skew = check_clock_skew("clock_skew", clock_skew)
        self._checks_period = check_validity(validity) == "each_request"
        self._lifetime = check_websocket_lifetime(websocket_lifetime)
        self._has_proxy_certificate = getattr(source, "has_proxy_certificate", False)
        self._store: ChainValidator | None = with_clock_skew(trust_store, self._clock_skew)
        self._allow = None if allow is None else PathRules(allow)
        if required is False and self._allow is not None and self._allow.is_mapping:
            raise ConfigurationError(
                "required=False with a mapping as allow= lets clients without a certificate into every path; use "
                "policy.ANYONE for the paths that need none, for example allow={'/': rule, '/public': ANYONE}"
            )
        self.caches: tuple[Cache[Any, Any], ...] = (*caches_of(source), *caches_of(self._store))
        self.cache_size: int | None = check_cache_size(cache_size)
        self._required = (self._allow is not None) if required is None else required
        self._exemptions = Exemptions(exempt, exempt_preflight)
        self.root_path: str | None = checked_root(root_path)
        self.drop_headers: frozenset[str] = KNOWN_HEADERS | source.drop_headers
        self.vary: str | None = source.vary
        self._check_strength()
        self.facts: Facts | None = self._declared_facts()
        self.fixed_route: Route | None = None
        if not self._exemptions and (self._allow is None or self._allow.is_single):
            self.fixed_route = Route(rule=None if self._allow is None else 0)

    def _check_strength(self) -> None:
        """Raises `ConfigurationError` for a layer that would reject every request."""
        if self._allow is not None and self._allow.needs_path and self.trust_store is None:
            raise ConfigurationError(
                f"allow={self._allow!r} has IssuedBy, which needs a path from a trust store: give trust_store="
            )
        if self.source.can_verify or self.trust_store is not None:
            return
        advice = "give verify_header=, verified_by_proxy=True (if the proxy rejects all others), or a trust_store"
        if self._allow is not None and not self._allow.may_accept_presented:
            raise ConfigurationError(
                f"allow={self._allow!r} needs a verified certificate, but {self.source!r} never gives one: {advice}"
            )
        if self._allow is None and self._required:
            raise ConfigurationError(
                f"required=True needs a verified certificate, but {self.source!r} never gives one: {advice}"
            )

    def _declared_facts(self) -> Facts | None:
        source = self.source
        if not opts_in(source):
            return None
        reads_peer, reads_tls = getattr(source, "reads_peer", True), getattr(source, "reads_tls", True)
        single: frozenset[str] = getattr(source, "single_lines", frozenset())
        return Facts(frozenset(source.drop_headers), peer=reads_peer, tls=reads_tls, single_lines=single)

    @property
    def depends_on_path(self) -> bool:
        """Whether different paths have different rules."""
        return bool(self._exemptions.paths) or (self._allow is not None and not self._allow.is_single)

    def document(self, request: LayerRequest) -> LayerResponse | None:  # noqa: ARG002 (this layer serves no document)
        return None

    def route(self, request: LayerRequest) -> Route:
        exempt = self._exemptions.cover(request)
        if self._allow is None:
            return Route(exempt)
        try:
            return Route(exempt, self._allow.position(request))
        except Refused:
            if not exempt:
                raise
            return Route(exempt=True)  # on this path, the layer rejects no request, so it needs no rule

    def decide(self, request: LayerRequest, route: Route) -> Flow[Reusable[ClientCertificate | None]]:
        if not route.exempt:
            return (yield from self._decide(request, route))
        if self._allow is not None and route.rule is None:
            return once(None)
        try:
            decided = yield from self._decide(request, route)
        except Refused:
            return once(None)  # attach no certificate, even if an outer layer found a certificate
        return once(decided.value)

    def _decide(self, request: LayerRequest, route: Route) -> Flow[Reusable[ClientCertificate | None]]:
        rule = None if self._allow is None or route.rule is None else self._allow.rules[route.rule]
        certificate = self._found(request)
        if isinstance(certificate, ClientCertificate):  # a source of the user may return any object
            request.attached.presented = certificate
        if certificate is None:
            request.attached.absence = partial(reason, self.source, request)
            if self._required and not isinstance(rule, Anyone):
                raise with_absence(Refused("client_certificate_required", NO_CERTIFICATE), request.attached)
            return once(None)  # an ignored header is logged each time
        is_outer = certificate is request.attached.certificate
        validated: Reusable[ClientCertificate] = Reusable(certificate)
        if self._store is not None:
            validated = yield from decide(self._store, certificate, request.now)
        certificate = validated.value
        if not isinstance(certificate, ClientCertificate):  # a source or trust store of the user may return any object
            raise TypeError(f"expected a ClientCertificate, got a {type(certificate).__name__}")
        if self._checks_period and certificate.verified:
            require_valid(certificate, request.now, self._clock_skew)
            begins, ends = certificate.period
            validated = validated.within(Reusable(None, begins - self._clock_skew, ends + self._clock_skew))
        self._judge(rule, certificate)
        checks = validated.checks
        if isinstance(rule, Rule) and not rule.depends_only_on_certificate:
            checks += (partial(_still_holds, rule, certificate),)
        if is_outer and self._has_proxy_certificate:
            # Not cached, because the checks of a cached decision cannot notice that the proxy is trusted again.
            return once(certificate)
        checks += self._proxy_checks(request)
        return Reusable(certificate, validated.begins, validated.ends, checks, extra_bytes(certificate.der))

    def _found(self, request: LayerRequest) -> ClientCertificate | None:
        """Return the certificate that the source finds, or the certificate of an outer layer."""
        certificate = self.source.find(request)
        if certificate is not None and self._has_proxy_certificate and self._checks_period:
            trusts = getattr(self.source, "trusts_proxy_now", None)
            certificate = certificate if trusts is None or trusts(request, self._clock_skew) else None
        outer = request.attached.certificate
        if certificate is None or (outer is not None and certificate == outer and not certificate.verified):
            return outer
        return certificate

    def _judge(self, rule: Rule | Anyone | None, certificate: ClientCertificate) -> None:
        """Raises `Refused` if the rule does not allow the certificate, or if it is required and not verified."""
        if isinstance(rule, Rule) or (rule is None and self._required):
            require_allowed(rule, certificate)

    def _proxy_checks(self, request: LayerRequest) -> tuple[Check, ...]:
        """Return the checks of the proxy's own certificate that are repeated when a cached decision is used."""
        again = self._proxy_recheck(request)
        return () if again is None else (partial(_raises_nothing, again),)

    def _proxy_recheck(self, request: LayerRequest) -> Callable[[float], None] | None:
        """Return a function that raises `Refused` if the proxy's own certificate is no longer accepted, or `None`."""
        recheck = getattr(self.source, "proxy_recheck", None) if self._has_proxy_certificate else None
        if recheck is None:
            return None
        found: Callable[[float], None] | None = recheck(request, self._clock_skew if self._checks_period else None)
        return found

    def rechecks(self, request: LayerRequest) -> list[Recheck]:
        """Return the functions that check the certificates of an open websocket and of its proxy again."""
        certificate = request.attached.certificate
        if certificate is None or self._lifetime == "connection":
            return []
        rule = None
        if self._allow is not None and not self._allow.depends_only_on_certificate:
            rule = self._allow.rules[self._allow.position(request)]
        found = certificate_recheck(
            certificate,
            self._store,
            clock_skew=self._clock_skew if self._checks_period else None,
            allow=None if rule is None else partial(self._judge, rule),
        )
        proxys = self._proxy_recheck(request)
        return [each for each in (found, proxys) if each is not None]


def _still_holds(rule: Rule, certificate: ClientCertificate, _now: float) -> bool:
    return rule.holds(certificate)


def _raises_nothing(again: Callable[[float], None], now: float) -> bool:
    again(now)
    return True
