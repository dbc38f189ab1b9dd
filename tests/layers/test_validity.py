"""A verified certificate must be within its validity period on every request, over old connections too."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from mtls_middleware import ClientCertificate, ConfigurationError, Verification
from mtls_middleware.policy import Presented, Thumbprint
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, self_signed
from mtls_middleware.validation import SpiffeTrust, TrustStore
from tests.gateways import MODULES, Outcome, Request, Wrap, both_gateways, send
from tests.layers.clock import Clock, clock
from tests.layers.formats import SOURCES
from tests.layers.test_decisions import record
from tests.layers.world import behind_nginx, certificates, nested

__all__ = ["clock"]

LIFETIME = 1000


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def issue(ca: CertificateAuthority, clock: Clock, **options: Any) -> IssuedCertificate:
    """Valid from now on, for `LIFETIME` seconds."""
    return ca.issue("CN=client,O=Tests", not_before=at(clock.now), not_after=at(clock.now + LIFETIME), **options)


def fields(name: str, client: IssuedCertificate) -> list[tuple[str, str]]:
    """The header fields in which the proxy of this name sends the certificate."""
    nginx = list(client.as_nginx().items())
    escaped, der = nginx[0][1], client.as_client_cert()["Client-Cert"].strip(":")
    hexadecimal = client.x509.fingerprint(client.x509.signature_hash_algorithm).hex()
    return {
        "RFC 9440": list(client.as_client_cert().items()),
        "nginx": nginx,
        "ingress-nginx": [("ssl-client-cert", escaped), ("ssl-client-verify", "SUCCESS")],
        "Apache": [("X-SSL-Client-Cert", client.pem.replace("\n", " ")), nginx[1]],
        "HAProxy": [("X-SSL-Client-Cert", der), nginx[1]],
        "Envoy": [("X-Forwarded-Client-Cert", f'Hash={hexadecimal};Cert="{quote(client.pem, safe="")}"')],
        "Traefik": [("X-Forwarded-Tls-Client-Cert", der)],
        "Caddy": [("X-SSL-Client-Cert", der)],
        "AWS verify": [("X-Amzn-Mtls-Clientcert-Leaf", escaped)],
        "Google": [("X-Client-Cert-Leaf", f":{der}:"), ("X-Client-Cert-Chain-Verified", "true")],
        "Cloudflare": [("Cf-Client-Cert-Der-Base64", der), ("Cf-Cert-Verified", "true")],
    }.get(name, [])


# Seconds from the beginning of the period, clock_skew, and whether the request passes.
MOMENTS = [
    (0, 0, True), (-1, 0, False), (LIFETIME, 0, True), (LIFETIME + 1, 0, False),
    (-60, 60, True), (-61, 60, False), (LIFETIME + 60, 60, True), (LIFETIME + 61, 60, False),
    (LIFETIME + 300, 300, True), (LIFETIME + 301, 300, False), (LIFETIME + 0.5, 0.25, False),
]  # fmt: skip


@both_gateways
@pytest.mark.parametrize("source", ["server", "nginx", "trust store"])
def test_period_holds_to_the_second_with_the_same_tolerance_everywhere(
    gateway: str, source: str, clock: Clock, mtls_ca: CertificateAuthority
) -> None:
    client = issue(mtls_ca, clock)
    begins = clock.now
    for after, skew, passes in MOMENTS:
        options: dict[str, Any] = {"clock_skew": skew, "required": True}
        if source == "nginx":
            wrap, request = certificates(**options), behind_nginx(client)
        else:
            store = {"trust_store": TrustStore([mtls_ca.certificate])} if source == "trust store" else {}
            wrap, request = certificates(ServerTLS(), **options, **store), Request(tls=client)
        clock.now = begins + after
        assert send(gateway, wrap, request).status == (200 if passes else 403), (after, skew)


@both_gateways
@pytest.mark.parametrize("name", [each for each in SOURCES if each not in ("AWS passthrough", "Azure")])
def test_certificate_that_expires_meanwhile_is_refused_for_every_source(
    gateway: str, name: str, clock: Clock, mtls_ca: CertificateAuthority
) -> None:
    client, layer = issue(mtls_ca, clock), Layers(gateway, certificates(SOURCES[name], required=True))
    request = Request(headers=fields(name, client))
    assert layer.send(request).application.certificate.verified
    clock.now += LIFETIME + 61
    answer = layer.send(request)
    assert (answer.status, json.loads(answer.body)["error"]) == (403, "client_certificate_refused")


class Layers:
    """The same layers for many requests, as in one process: what they cache stays."""

    def __init__(self, gateway: str, wrap: Wrap) -> None:
        self._gateway, self._wrap = gateway, wrap
        self._app: list[Any] = [None]
        self._made: Any = None

    def send(self, request: Request) -> Outcome:
        def once(module: Any, app: Any) -> Any:
            self._app[0] = app
            if self._made is None:
                self._made = self._wrap(module, self._call)
            return self._made

        return send(self._gateway, once, request)

    def _call(self, *arguments: Any) -> Any:
        return self._app[0](*arguments)


@both_gateways
@pytest.mark.parametrize("required", [True, False])
def test_expired_certificate_is_refused_even_if_none_is_required(
    gateway: str, required: bool, clock: Clock, mtls_ca: CertificateAuthority
) -> None:
    client = issue(mtls_ca, clock)
    clock.now += LIFETIME + 61
    assert send(gateway, certificates(required=required), behind_nginx(client)).status == 403


@both_gateways
def test_expired_certificate_is_not_attached_on_exempt_paths(
    gateway: str, clock: Clock, mtls_ca: CertificateAuthority
) -> None:
    client, layers = issue(mtls_ca, clock), Layers(gateway, nested({"required": True, "exempt": ["/health"]}))
    request = behind_nginx(client, path="/health")
    assert layers.send(request).application.certificate is not None
    clock.now += LIFETIME + 61
    seen = layers.send(request).application
    assert seen.certificate is None
    assert "x-ssl-client-cert" not in seen.headers


@both_gateways
def test_presented_certificate_has_no_period(gateway: str, clock: Clock) -> None:
    client = self_signed("CN=client", not_before=at(clock.now), not_after=at(clock.now + LIFETIME))
    clock.now += LIFETIME * 10
    wrap = certificates(allow=Presented(lambda each: each.thumbprint == client.thumbprint))
    seen = send(gateway, wrap, behind_nginx(client, "FAILED:self signed certificate")).application
    assert seen.certificate.verification is Verification.PRESENTED


@both_gateways
def test_validity_of_the_handshake_is_the_operators_statement(
    gateway: str, clock: Clock, mtls_ca: CertificateAuthority
) -> None:
    client = issue(mtls_ca, clock)
    clock.now += LIFETIME * 10
    assert send(gateway, certificates(required=True, validity="handshake"), behind_nginx(client)).status == 200
    stored = certificates(validity="handshake", trust_store=TrustStore([mtls_ca.certificate]))
    assert send(gateway, stored, behind_nginx(client)).status == 403  # a store validates now


@both_gateways
@pytest.mark.parametrize("above", ["intermediate", "root"])
@pytest.mark.parametrize("kind", [TrustStore, SpiffeTrust])
def test_path_that_a_store_validated_ends_with_its_shortest_certificate(
    gateway: str, above: str, kind: Callable[..., Any], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    dates = {"not_before": at(clock.now - 100), "not_after": at(clock.now + 50)}
    root = CertificateAuthority(**(dates if above == "root" else {}))
    issuing = root.intermediate(**(dates if above == "intermediate" else {}))
    client = issue(issuing, clock, uris=["spiffe://acme.internal/billing"])
    roots = [root.certificate]
    store = TrustStore(roots) if kind is TrustStore else SpiffeTrust({"acme.internal": roots})
    layers = Layers(gateway, certificates(ServerTLS(), trust_store=store))
    for later, status in ((0, 200), (50, 200), (110, 200), (111, 403), (50, 200), (111, 403)):
        clock.now = dates["not_after"].timestamp() - 50 + later
        caplog.clear()
        caplog.set_level("INFO")
        assert layers.send(Request(tls=client)).status == status, later
    assert "an issuer in its path is outside of its validity period" in caplog.text
    assert "it ended 61 s ago" in caplog.text


def test_an_expired_certificate_that_is_not_in_the_path_is_not_named(clock: Clock) -> None:
    """A second root of the same name has expired; the reason for the refusal is another one."""
    old = CertificateAuthority(not_before=at(clock.now - 100), not_after=at(clock.now - 90))
    new, stranger = CertificateAuthority(), CertificateAuthority()
    wrap = certificates(ServerTLS(), trust_store=TrustStore([old.certificate, new.certificate]))
    answer = send("asgi", wrap, Request(tls=issue(stranger, clock)))
    assert (answer.status, answer.header("connection")) == (403, None)


@both_gateways
def test_leeway_of_a_store_only_narrows_the_tolerance_of_the_layer(
    gateway: str, clock: Clock, mtls_ca: CertificateAuthority
) -> None:
    client, begins = issue(mtls_ca, clock), clock.now
    for leeway, skew, tolerance in ((None, 60, 60), (None, 0, 0), (5, 60, 5), (300, 60, 60), (0, 60, 0), (60, 0, 0)):
        store = TrustStore([mtls_ca.certificate], leeway=leeway)
        layers = Layers(gateway, certificates(ServerTLS(), trust_store=store, clock_skew=skew))
        for after, status in ((tolerance, 200), (tolerance + 1, 403)):
            clock.now = begins + LIFETIME + after
            assert layers.send(Request(tls=client)).status == status, (leeway, skew)


def test_one_store_serves_layers_of_different_tolerance(clock: Clock, mtls_ca: CertificateAuthority) -> None:
    client, store = issue(mtls_ca, clock), TrustStore([mtls_ca.certificate])
    strict, lenient = (
        Layers("wsgi", certificates(ServerTLS(), trust_store=store, clock_skew=each)) for each in (0, 300)
    )
    clock.now += LIFETIME + 200
    for _ in range(2):  # the verdict of the lenient one is cached, and is of no use to the strict one
        assert lenient.send(Request(tls=client)).status == 200
        assert strict.send(Request(tls=client)).status == 403


@both_gateways
@pytest.mark.parametrize("period", [None, (0.0, 2.0**40)])
def test_store_of_another_author_is_held_to_the_leafs_period(
    gateway: str, period: tuple[float, float] | None, clock: Clock, mtls_ca: CertificateAuthority
) -> None:
    class Store:
        def validate(self, certificate: ClientCertificate, _now: float) -> ClientCertificate:
            return certificate.with_verification(Verification.BY_TRUST_STORE, period)

    client = issue(mtls_ca, clock)
    layers = Layers(gateway, certificates(ServerTLS(), trust_store=Store()))
    assert layers.send(Request(tls=client)).status == 200
    clock.now += LIFETIME + 61
    assert layers.send(Request(tls=client)).status == 403


@both_gateways
def test_inner_layer_checks_the_outer_certificate_with_its_own_tolerance(
    gateway: str, clock: Clock, mtls_ca: CertificateAuthority
) -> None:
    client = issue(mtls_ca, clock)
    clock.now += LIFETIME + 30
    for outer, inner, status in (
        ({}, {}, 200),
        ({}, {"clock_skew": 0}, 403),
        ({"validity": "handshake"}, {"clock_skew": 0}, 403),
    ):
        wrap = nested(outer, {"source": ServerTLS(), **inner})
        assert send(gateway, wrap, behind_nginx(client)).status == status


# What the client and the operator see


@both_gateways
@pytest.mark.parametrize("moment", [(LIFETIME + 95, "it ended 95 s ago"), (-61, "it begins in 61 s")])
def test_the_record_names_the_distance_and_the_expected_range(
    gateway: str,
    moment: tuple[int, str],
    clock: Clock,
    mtls_ca: CertificateAuthority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    later, distance = moment
    clock.now = datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    client = issue(mtls_ca, clock)
    clock.now += later
    caplog.set_level("INFO")
    send(gateway, certificates(), behind_nginx(client))
    evidence = record(caplog)["evidence"]
    now = at(clock.now).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert evidence == (
        f"{client.thumbprint} is outside of its validity period",
        distance,
        f"found: valid from 2030-01-01T00:00:00Z to 2030-01-01T00:16:40Z; expected: valid at {now}, "
        "with clock_skew=60 s",
    )


@pytest.mark.parametrize(("version", "close"), [("1.0", "close"), ("1.1", "close"), ("2", None), ("3", None)])
@pytest.mark.parametrize("stored", [False, True])
def test_response_asks_for_a_new_connection_where_http_has_it(
    version: str, close: str | None, stored: bool, clock: Clock, mtls_ca: CertificateAuthority
) -> None:
    client = issue(mtls_ca, clock)
    store = {"trust_store": TrustStore([mtls_ca.certificate])} if stored else {}
    clock.now += LIFETIME + 61
    request = Request(tls=client, extra={"http_version": version})
    answer = send("asgi", certificates(ServerTLS(), **store), request)
    assert (answer.status, answer.header("connection")) == (403, close)


def test_other_refusals_keep_the_connection(clock: Clock, mtls_ca: CertificateAuthority) -> None:
    wrap = certificates(ServerTLS(), allow=Thumbprint("A" * 43))
    answer = send("asgi", wrap, Request(tls=issue(mtls_ca, clock)))
    assert (answer.status, answer.header("connection")) == (403, None)


def test_wsgi_response_has_no_hop_by_hop_field(clock: Clock, mtls_ca: CertificateAuthority) -> None:
    """PEP 3333, "Other HTTP Features": applications must not send them, and servers may raise an error."""
    client = issue(mtls_ca, clock)
    clock.now += LIFETIME + 61
    answer = send("wsgi", certificates(ServerTLS()), Request(tls=client))
    assert (answer.status, answer.header("connection")) == (403, None)


@both_gateways
@pytest.mark.parametrize(
    "options",
    [
        *({"clock_skew": each} for each in (-1, 300.5, True, False, "60", None, float("nan"), float("inf"))),
        *({"validity": each} for each in ("always", None, True, "Handshake", ["handshake"])),
    ],
)
@pytest.mark.parametrize("function", ["ClientCertificateMiddleware", "protect"])
def test_wrong_tolerance_cannot_be_constructed(gateway: str, options: dict[str, Any], function: str) -> None:
    name = next(iter(options))
    with pytest.raises(ConfigurationError, match=name):
        getattr(MODULES[gateway], function)(lambda *_: None, source=ServerTLS(), **options)


@pytest.mark.parametrize("year", [2049, 2050, 9999])
def test_dates_at_the_ends_of_their_types_are_compared(year: int, clock: Clock, mtls_ca: CertificateAuthority) -> None:
    first, last = datetime(1950, 1, 1, tzinfo=UTC), datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    client = mtls_ca.issue("CN=client", not_before=first, not_after=last)
    assert send("wsgi", certificates(), behind_nginx(client)).status == 200


@both_gateways
def test_proxys_own_certificate_expires_too(
    gateway: str, clock: Clock, mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate
) -> None:
    proxy = issue(mtls_ca, clock)
    source = Nginx(proxy_certificate=Thumbprint(proxy.thumbprint))
    layers = Layers(gateway, certificates(source))
    waved = Layers(gateway, certificates(source, validity="handshake"))
    assert layers.send(behind_nginx(mtls_client, tls=proxy)).application.certificate is not None
    clock.now += LIFETIME + 61
    seen = layers.send(behind_nginx(mtls_client, tls=proxy)).application
    assert (seen.certificate, "x-ssl-client-cert" in seen.headers) == (None, False)
    assert waved.send(behind_nginx(mtls_client, tls=proxy)).application.certificate is not None
