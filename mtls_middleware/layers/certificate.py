"""The layer that finds, validates and judges the client certificate of a request."""

from collections.abc import Collection
from functools import partial

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.flow import Decision, Flow
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.layers.exemptions import Exemptions
from mtls_middleware.layers.paths import Allow, PathRules, PathSet, checked_root
from mtls_middleware.layers.websocket_lifetime import (
    Recheck,
    WebsocketLifetime,
    certificate_recheck,
    check_websocket_lifetime,
)
from mtls_middleware.policy.rule import Anyone, Rule
from mtls_middleware.request import RequestView
from mtls_middleware.resource_server.metadata import ServedDocument
from mtls_middleware.responses import Challenge
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
    """Finds, validates and judges the client certificate."""

    name = "certificate"
    challenge: Challenge = Challenge()
    body_paths: PathSet | None = None
    published: ServedDocument | None = None

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
    ) -> None:
        if not all(hasattr(source, name) for name in MEMBERS) or isinstance(source, type):  # a str has a find() too
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
        self._clock_skew = check_clock_skew("clock_skew", clock_skew)
        self._checks_period = check_validity(validity) == "each_request"
        self._lifetime = check_websocket_lifetime(websocket_lifetime)
        checks_proxy = self._checks_period and getattr(source, "has_proxy_certificate", False)
        self._trusts_proxy_now = getattr(source, "trusts_proxy_now", None) if checks_proxy else None
        self._store: ChainValidator | None = with_clock_skew(trust_store, self._clock_skew)
        self._allow = None if allow is None else PathRules(allow)
        if required is False and self._allow is not None and self._allow.is_mapping:
            raise ConfigurationError(
                "required=False with a mapping as allow= lets clients without a certificate into every path; use "
                "policy.ANYONE for the paths that need none, for example allow={'/': rule, '/public': ANYONE}"
            )
        self._required = (self._allow is not None) if required is None else required
        # If neither a trust store nor the path plays a part, the rule's answer about a certificate stays the same.
        self._is_lasting = trust_store is None and (self._allow is None or self._allow.is_lasting)
        self._verdict = object()
        self._exemptions = Exemptions(exempt, exempt_preflight)
        self.root_path: str | None = checked_root(root_path)
        self.drop_headers: frozenset[str] = KNOWN_HEADERS | source.drop_headers
        self.vary: str | None = source.vary
        self._check_strength()

    def _check_strength(self) -> None:
        """Raises `ConfigurationError` for a layer that would reject every request."""
        if self.source.can_verify or self.trust_store is not None:
            return
        advice = "give verify_header=, verified_by_proxy=True (where the proxy refuses all others), or a trust_store"
        if self._allow is not None and not self._allow.may_accept_presented:
            raise ConfigurationError(
                f"allow={self._allow!r} asks for a verified certificate; {self.source!r}: {advice}"
            )
        if self._allow is None and self._required:
            raise ConfigurationError(f"required=True asks for a verified certificate; {self.source!r}: {advice}")

    @property
    def depends_on_path(self) -> bool:
        """Whether there are different rules for different paths."""
        return bool(self._exemptions.paths) or (self._allow is not None and not self._allow.is_single)

    def decide(self, view: RequestView) -> Decision[ClientCertificate | None]:
        exempt = self._exemptions.cover(view)
        try:
            rule = None if self._allow is None else self._allow.for_request(view)
            certificate = self.source.find(view)
            if certificate is not None and self._trusts_proxy_now is not None:
                certificate = certificate if self._trusts_proxy_now(view, self._clock_skew) else None
            outer = view.attached.certificate
            if outer is None and type(certificate) is ClientCertificate and self._verdict in certificate.verdicts:
                return self._within_period(view, certificate)
            found = self._accepted(view, certificate, outer, rule)
        except Refused:
            if exempt:
                return None  # also if an outer layer found a certificate
            raise
        return found if found is None or isinstance(found, ClientCertificate) else self._decide_later(found, exempt)

    def _decide_later(self, flow: Flow[ClientCertificate | None], exempt: bool) -> Flow[ClientCertificate | None]:
        try:
            return (yield from flow)
        except Refused:
            if exempt:
                return None
            raise

    def _accepted(
        self,
        view: RequestView,
        certificate: ClientCertificate | None,
        outer: ClientCertificate | None,
        rule: Rule | Anyone | None,
    ) -> Decision[ClientCertificate | None]:
        if certificate is None or (outer is not None and certificate == outer and not certificate.verified):
            certificate = outer
        if certificate is None:
            if self._required and not isinstance(rule, Anyone):
                raise Refused("client_certificate_required", "no client certificate")
            return None
        if self._store is None:
            return self._allowed(view, certificate, rule)
        validated = self._store.validate(certificate, view.now)
        if isinstance(validated, ClientCertificate):
            return self._allowed(view, validated, rule)
        return self._allowed_later(view, validated, rule)

    def _allowed_later(
        self, view: RequestView, flow: Flow[ClientCertificate], rule: Rule | Anyone | None
    ) -> Flow[ClientCertificate | None]:
        return self._allowed(view, (yield from flow), rule)

    def _allowed(
        self, view: RequestView, certificate: ClientCertificate, rule: Rule | Anyone | None
    ) -> ClientCertificate:
        if not isinstance(certificate, ClientCertificate):  # a source or trust store of somebody else's: no pass
            raise TypeError(f"a {type(certificate).__name__} is no certificate")
        self._within_period(view, certificate)
        if self._allow is not None and rule is not None:
            self._allow.judge(rule, certificate)
        elif self._required and not certificate.verified:
            raise Refused("client_certificate_refused", f"{certificate.thumbprint} is merely presented, not verified")
        if self._is_lasting:
            certificate.verdicts[self._verdict] = True
        return certificate

    def rechecks(self, view: RequestView) -> list[Recheck]:
        """How to decide again about the certificate that opened a websocket, and about the proxy that sent it."""
        certificate: ClientCertificate | None = view.attached.certificate
        if certificate is None or self._lifetime == "connection":
            return []
        rule = None if self._allow is None or self._allow.is_lasting else self._allow.for_request(view)
        allow = None if self._allow is None or rule is None else partial(self._allow.judge, rule)
        skew = self._clock_skew if self._checks_period else None
        proxys = getattr(self.source, "proxy_recheck", None)
        found = (
            certificate_recheck(certificate, self._store, clock_skew=skew, allow=allow),
            None if proxys is None else proxys(view, skew),
        )
        return [each for each in found if each is not None]

    def _within_period(self, view: RequestView, certificate: ClientCertificate) -> ClientCertificate:
        """Raises `Refused` for a verified certificate outside its period. A presented one makes no claim about time."""
        if self._checks_period and certificate.verified:
            require_valid(certificate, view.now, self._clock_skew)
        return certificate
