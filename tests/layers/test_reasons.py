"""The log says why a request is rejected, and what the operator can change."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from mtls_middleware import ClientCertificate
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.layers import decisions
from mtls_middleware.line_limit import LINES_PER_SECOND, LineLimit
from mtls_middleware.policy import URI, Email, Issuer, Rule, SpiffeID, Subject
from mtls_middleware.resource_server import TrustedIssuers
from mtls_middleware.sources import AzureAppService, ClientCertHeader, Envoy, Nginx, ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from mtls_middleware.token_endpoint import confirm_refresh_token
from mtls_middleware.validation import TrustStore
from tests.gateways import STRANGER, Request, Wrap, both_gateways, send
from tests.layers.clock import Clock, clock
from tests.layers.world import SECRET, SOMEBODY, TRUSTED, behind_nginx, certificates, nginx

__all__ = ["clock"]

AUTHORITY, ELSEWHERE = CertificateAuthority(), CertificateAuthority("CN=Elsewhere")
CLIENT = AUTHORITY.issue(
    "CN=client,O=Tests", uris=["spiffe://acme.test/Billing", "urn:Acme"], emails=["Ops@acme.example"]
)
OLD = AUTHORITY.issue("CN=old", not_after=datetime.now(UTC) - timedelta(days=1))
ISSUER, OTHER_ISSUER = TokenIssuer(), TokenIssuer(audience="https://other.test")
# The header {"alg":"RSA-OAEP","enc":"A256GCM"}, and the four other parts (RFC 7516 3.1).
ENCRYPTED = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.AAAA.BBBB.CCCC.DDDD"
PEER = f"the peer '{STRANGER}' is not in trusted_proxies=['10.0.0.0/8']"


def protected(source: Any, **options: Any) -> Wrap:
    return lambda module, app: module.protect(app, source=source, **options)


def over_tls(**options: Any) -> Wrap:
    return protected(ServerTLS(), tokens=ISSUER.access_tokens(), **options)


def bearer(issuer: TokenIssuer = ISSUER, certificate: IssuedCertificate | None = CLIENT, **options: Any) -> Any:
    options = {"lifetime": timedelta(days=1), **options}  # a whole run may take longer than 5 minutes
    return [("Authorization", "Bearer " + issuer.token(certificate=certificate, **options))]


def allowed(rule: Rule, *, verified: bool = True) -> "Case":
    return Case(certificates(ServerTLS(), allow=rule), Request(tls=CLIENT, verified=verified), (repr(rule),))


@dataclass(frozen=True)
class Case:
    """`said`: parts of the line."""

    layers: Wrap
    request: Request
    said: tuple[str, ...]
    gateways: tuple[str, ...] = ("wsgi", "asgi")

    def saying(self, *more: str) -> "Case":
        return Case(self.layers, self.request, (*self.said, *more), self.gateways)


CASES: dict[str, Case] = {
    "header of an untrusted peer": Case(
        certificates(required=True),
        behind_nginx(CLIENT, peer=STRANGER),
        ("the field x-ssl-client-cert is ignored", PEER, "add its address to trusted_proxies="),
    ),
    "no header, untrusted peer": Case(
        certificates(required=True), Request(peer=STRANGER), ("the request has no field", PEER)
    ),
    "the same, with tokens": Case(
        protected(Nginx(trusted_proxies=TRUSTED), tokens=ISSUER.access_tokens()),
        Request(peer=STRANGER, headers=[*nginx(CLIENT), *bearer()]),
        ("only tokens bound to one are accepted", PEER, "add its address to trusted_proxies="),
    ),
    "no header of the proxy": Case(
        certificates(required=True),
        Request(),
        ("the proxy sent no field x-ssl-client-cert", "`mtls-middleware proxy-config` prints"),
    ),
    "empty header of the proxy": Case(
        certificates(required=True),
        Request(headers=[("X-SSL-Client-Cert", ""), ("X-SSL-Client-Verify", "NONE")]),
        ("the field x-ssl-client-cert of the proxy contains no certificate", "the client presented none"),
    ),
    "wrong secret": Case(
        certificates(Nginx(shared_secret=SECRET), required=True),
        behind_nginx(CLIENT).with_headers((SECRET[0], "wrong horse battery staple")),
        ("the shared secret header is missing, wrong or repeated", "send the value of shared_secret="),
    ),
    "https without the TLS extension": Case(
        certificates(ServerTLS(), required=True),
        Request(),
        ("the server provides no ASGI TLS extension", "--http mtls_middleware.servers.uvicorn_tls:H11"),
        ("asgi",),
    ),
    "no certificate in the handshake": Case(
        certificates(ServerTLS(), required=True),
        Request(extra={"extensions": {"tls": {}}}),
        ("the client presented no certificate in the TLS handshake", "--ssl-cert-reqs 1"),
        ("asgi",),
    ),
    "nothing in the environ": Case(
        certificates(ServerTLS(), required=True),
        Request(),
        ("the server reports no client certificate in the environ", "--cert-reqs 1"),
        ("wsgi",),
    ),
    "not verified": Case(
        certificates(ServerTLS(), required=True),
        Request(tls=CLIENT, verified=False),
        ("is only presented, not verified", "trust_store="),
    ),
    "expired": Case(
        certificates(ServerTLS(), required=True),
        Request(tls=OLD),
        ("it ended ", "renew the certificate, and let the client open a new connection"),
    ),
    "another order": allowed(Subject("O=Tests,CN=client")).saying("in another order", "the most specific first"),
    "another order of the issuer": allowed(Issuer("O=Tests,CN=Test Client CA")).saying("in another order"),
    "another case of a URI": allowed(URI("urn:acme")).saying("only in upper and lower"),
    "another case of a SPIFFE ID": allowed(SpiffeID("spiffe://acme.test/billing")).saying("only in upper and lower"),
    "another case of an address": allowed(Email("ops@acme.example")).saying("only in upper and lower"),
    "one of several rules": allowed(SOMEBODY | URI("urn:acme")).saying("URI(uri='urn:acme') differs"),
    "right name, not verified": allowed(Subject("CN=client,O=Tests"), verified=False).saying("but it is only"),
    "no such client": allowed(SOMEBODY).saying("if this client may be allowed, change allow="),
    "XFCC without Cert": Case(
        certificates(Envoy(trusted_proxies=TRUSTED, verified_by_proxy=True), required=True),
        Request(headers=[("X-Forwarded-Client-Cert", f'Hash={"0" * 64};Subject="CN=client"')]),
        ("the element of x-forwarded-client-cert has no Cert and no Chain", "set `cert: true`"),
    ),
    "a CA that is missing": Case(
        certificates(ServerTLS(), trust_store=TrustStore([ELSEWHERE.certificate]), required=True),
        Request(tls=CLIENT),
        (
            "the CA with the key identifier",
            "the trust store has: CN=Elsewhere",
            "add its certificate to the trust",
        ),
    ),
    "another audience": Case(
        over_tls(),
        Request(tls=CLIENT, headers=bearer(claims={"aud": "https://other.test"})),
        ("found={'aud': 'https://other.test'}", f"expected={{'aud': '{ISSUER.audience}'}}"),
    ),
    "another issuer": Case(
        over_tls(),
        Request(tls=CLIENT, headers=bearer(claims={"iss": "https://other.test"})),
        ("found={'iss': 'https://other.test'}", f"expected={{'iss': '{ISSUER.issuer}'}}"),
    ),
    "none of several issuers": Case(
        protected(ServerTLS(), tokens=TrustedIssuers([ISSUER.access_tokens()])),
        Request(tls=CLIENT, headers=bearer(claims={"iss": "https://other.test"})),
        ("found={'iss': 'https://other.test'}", f"expected={{'iss': ('{ISSUER.issuer}',)}}"),
    ),
    "another typ": Case(
        over_tls(),
        Request(tls=CLIENT, headers=bearer(headers={"typ": "JWT"})),
        ("found={'typ': 'JWT'}", "expected={'typ': ('at+jwt',)}"),
    ),
    "another alg": Case(
        over_tls(),
        Request(tls=CLIENT, headers=bearer(headers={"alg": "none"})),
        ("found={'alg': 'none'}", "'ES256'"),
    ),
    "another kid": Case(
        over_tls(),
        Request(tls=CLIENT, headers=bearer(headers={"kid": "old"})),
        ("found={'kid': 'old', 'alg': 'ES256'}", f"expected={{'kid': ('{ISSUER.jwks['keys'][0]['kid']}',)}}"),
    ),
    "token of another certificate": Case(
        over_tls(),
        Request(tls=CLIENT, headers=bearer(certificate=OLD)),
        (f"found={{'thumbprint': '{CLIENT.thumbprint}'}}", f"expected={{'thumbprint': '{OLD.thumbprint}'}}"),
    ),
    "bound by DPoP": Case(
        over_tls(),
        Request(tls=CLIENT, headers=bearer(certificate=None, claims={"cnf": {"jkt": "x" * 43}})),
        ("the token is bound by DPoP", "let the authorization server bind the tokens of this client"),
    ),
    "encrypted": Case(
        over_tls(),
        Request(tls=CLIENT, headers=[("Authorization", f"Bearer {ENCRYPTED}")]),
        ("the token is encrypted", "let the authorization server issue signed tokens"),
    ),
    "encrypted, several issuers": Case(
        protected(ServerTLS(), tokens=TrustedIssuers([ISSUER.access_tokens()])),
        Request(tls=CLIENT, headers=[("Authorization", f"Bearer {ENCRYPTED}")]),
        ("the token is encrypted", "let the authorization server issue signed tokens"),
    ),
    "bound token, no certificate": Case(
        lambda module, app: module.ClientCertificateMiddleware(
            module.CertificateBoundTokenMiddleware(app, ISSUER.access_tokens(), binding="when_present"),
            AzureAppService(trusted_proxies=TRUSTED),
        ),
        Request(headers=bearer(), peer=STRANGER),
        (f"expected={{'thumbprint': '{CLIENT.thumbprint}'}}", PEER),
    ),
}
ROWS = [(name, gateway) for name, case in CASES.items() for gateway in case.gateways]


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.name == "mtls_middleware.decision"]


def fields(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(each)["mtls"] for each in lines(caplog)]


@pytest.mark.parametrize(("name", "gateway"), ROWS)
def test_first_rejection_of_a_cause_is_a_warning_with_the_reason(
    name: str, gateway: str, caplog: pytest.LogCaptureFixture
) -> None:
    case = CASES[name]
    caplog.set_level(logging.INFO)
    for _ in range(3):
        assert not send(gateway, case.layers, case.request).reached
    first, *others = lines(caplog)
    assert (first.levelname, {each.levelname for each in others}) == ("WARNING", {"INFO"})
    text = first.getMessage()
    assert [part for part in case.said if part not in text.replace('\\"', '"').replace("\\'", "'")] == []
    assert f"peer='{case.request.peer}'" in text
    assert "CN=client" not in text or "CN=client" in "".join(case.said)
    for _, value in case.request.headers:
        assert len(value) < 10 or value not in text


def test_the_reason_is_the_answer_to_no_client(mtls_client: IssuedCertificate) -> None:
    for gateway, case in ((gateway, CASES[name]) for name, gateway in ROWS):
        body = send(gateway, case.layers, case.request).body
        assert not any(part.encode() in body for part in case.said)


@both_gateways
def test_another_cause_is_another_warning(gateway: str, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("expired", "no such client", "expired", "not verified", "no such client"):
        send(gateway, CASES[name].layers, CASES[name].request)
    assert [each.levelname for each in lines(caplog)] == ["WARNING"] * 3


MALFORMED: dict[str, dict[str, str]] = {
    "no PEM": {"X-SSL-Client-Cert": "nothing", "X-SSL-Client-Verify": "SUCCESS"},
    "an invalid escape": {"X-SSL-Client-Cert": "%zz", "X-SSL-Client-Verify": "SUCCESS"},
    "an unknown verification word": {**CLIENT.as_nginx(), "X-SSL-Client-Verify": "PERHAPS"},
}


@both_gateways
def test_each_reason_without_advice_is_a_warning_that_names_the_page(
    gateway: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        for fields_ in MALFORMED.values():
            wrap = certificates(Nginx(trusted_proxies=TRUSTED), required=True)
            assert send(gateway, wrap, Request(headers=list(fields_.items()))).status == 400
    found = lines(caplog)
    assert [each.levelname for each in found] == ["WARNING"] * len(MALFORMED) + ["INFO"] * len(MALFORMED)
    for each in found[: len(MALFORMED)]:
        assert "what to change: " in each.getMessage()
    assert "docs/troubleshooting.md explains the code invalid_client_certificate" in caplog.text


@both_gateways
def test_a_client_cannot_cause_a_warning_for_each_request(gateway: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for number in range(50):
        headers = bearer(claims={"aud": f"https://{number}.test", "iss": f"https://as{number}.test"})
        send(gateway, over_tls(), Request(tls=CLIENT, headers=headers))
        send(gateway, over_tls(), Request(tls=CLIENT, headers=[("Authorization", f"Bearer {'x' * number}.y.z")]))
    assert len([each for each in lines(caplog) if each.levelname == "WARNING"]) <= 6


def test_server_that_folds_names_is_an_error_with_what_to_change(caplog: pytest.LogCaptureFixture) -> None:
    request = behind_nginx(CLIENT, extra={"SERVER_SOFTWARE": "WSGIServer/0.2 CPython/3.11.7"})
    assert send("wsgi", certificates(required=True), request).status == 500
    assert {each.levelname for each in caplog.records} == {"ERROR"}
    assert "proxy_deletes_underscores=True" in caplog.text


# --- a dense stream


@both_gateways
def test_dense_stream_of_rejections_is_ten_lines_and_a_count(
    gateway: str, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    caplog.set_level(logging.INFO)
    case, report = CASES["no such client"], []
    stop = decisions.observe(report.append)
    try:
        for _ in range(500):
            send(gateway, case.layers, case.request)
        assert len(lines(caplog)) == LINES_PER_SECOND
        clock.now += 1
        send(gateway, case.layers, case.request)
    finally:
        stop()
    assert len(report) == 501
    assert fields(caplog)[-1]["left_out"] == 500 - LINES_PER_SECOND
    assert f"left_out={500 - LINES_PER_SECOND}" in lines(caplog)[-1].getMessage()


def test_causes_without_end_need_no_memory_without_end() -> None:
    limit = LineLimit()
    for number in range(5_000):
        limit.admit(("cause", number), 0.0)
    assert len(limit._causes) <= 1_001
    assert not limit.is_first("one more")
    assert limit.admit("one more", 0.0) is None


@both_gateways
def test_values_of_a_client_are_escaped_and_cut(gateway: str, caplog: pytest.LogCaptureFixture) -> None:
    claims = {"aud": "\u202e\x1b[31m" + "a" * 3_000}
    send(gateway, over_tls(), Request(tls=CLIENT, headers=bearer(claims=claims)))
    (line,) = (each.getMessage() for each in lines(caplog))
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 1_500


# --- names, expiry


@pytest.fixture
def configured() -> Any:
    before = decisions._options
    yield decisions.configure
    decisions._options = before


@both_gateways
def test_names_are_logged_only_on_request(gateway: str, configured: Callable[..., None], caplog: Any) -> None:
    case = CASES["no such client"]
    send(gateway, case.layers, case.request)
    assert "urn:Acme" not in caplog.text
    decisions._rejections = LineLimit()
    configured(log_names=True)
    send(gateway, case.layers, case.request)
    assert fields(caplog)[-1]["subject"] == "CN=client,O=Tests"
    assert fields(caplog)[-1]["user_principal_names"] == ()
    assert "uris=('spiffe://acme.test/Billing', 'urn:Acme')" in caplog.text.replace('"', "")


@both_gateways
def test_certificate_that_expires_soon_is_one_warning_a_day(
    gateway: str, configured: Callable[..., None], caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    soon = AUTHORITY.issue("CN=soon", not_after=datetime.now(UTC) + timedelta(days=9, hours=1))
    for days in range(3):
        for _ in range(3):
            assert send(gateway, certificates(ServerTLS(), required=True), Request(tls=soon)).reached
            assert send(gateway, certificates(ServerTLS(), required=True), Request(tls=CLIENT)).reached
        assert [each.getMessage() for each in lines(caplog)] == [
            f"the client certificate {soon.thumbprint} expires in {9 - past} days; renew it, or change warn_days="
            for past in range(days + 1)
        ]
        clock.now += 86_400
    configured(warn_days=3)
    send(gateway, certificates(ServerTLS(), required=True), Request(tls=soon))
    assert len(lines(caplog)) == 3


def test_presented_certificate_that_expires_soon_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    send("wsgi", certificates(ServerTLS()), Request(tls=OLD, verified=False))
    assert lines(caplog) == []


@pytest.mark.parametrize(
    "options", [{"log_names": "yes"}, {"warn_days": -1}, {"warn_days": "30"}, {"warn_days": True}, {"warn_days": 1.5}]
)
def test_settings_that_are_wrong_are_rejected(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        decisions.configure(**options)


# --- what a server or an application may do


@both_gateways
def test_unreadable_peer_changes_no_decision(gateway: str, caplog: pytest.LogCaptureFixture) -> None:
    """The record has the peer, which no layer reads here."""
    caplog.set_level(logging.INFO)
    odd: Any = {"asgi": {"client": ("10.0.0.7",)}, "wsgi": {"gunicorn.socket": Unreadable()}}[gateway]
    request = Request(tls=CLIENT, extra=odd)
    assert send(gateway, certificates(ServerTLS(), required=True), request).status == 200
    assert send(gateway, certificates(ServerTLS(), allow=SOMEBODY), request).status == 403
    assert [each["peer"] for each in fields(caplog)] == [None, None]


class Unreadable:
    """A socket whose family cannot be read any more."""

    @property
    def family(self) -> int:
        raise OSError("closed")


def test_refresh_token_of_another_certificate_keeps_both_thumbprints() -> None:
    with pytest.raises(Refused) as caught:
        confirm_refresh_token({"x5t#S256": OLD.thumbprint}, ClientCertificate.from_der(CLIENT.der))
    assert caught.value.code == "invalid_grant"
    assert caught.value.found == {"thumbprint": CLIENT.thumbprint}
    assert caught.value.expected == {"thumbprint": OLD.thumbprint}


# --- sources of users


class Odd:
    """A source that gives a reason of another type."""

    can_verify, drop_headers, vary = True, frozenset[str](), None

    def find(self, _view: Any) -> None:
        return None

    def absence(self, _view: Any) -> str:
        return "no idea"


@both_gateways
def test_source_without_a_usable_reason_gives_none(gateway: str, caplog: pytest.LogCaptureFixture) -> None:
    send(gateway, certificates(Odd(), required=True), Request())
    assert "evidence=('no client certificate',)" in caplog.text


def test_names_that_cannot_be_read_do_not_stop_a_rejection(caplog: pytest.LogCaptureFixture) -> None:
    bad = AUTHORITY.issue(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a\x00b")]))
    for rule in (Subject("CN=ab"), URI("urn:acme"), SOMEBODY | URI("urn:acme")):
        assert send("wsgi", certificates(ServerTLS(), allow=rule), Request(tls=bad)).status == 403
    assert "is not allowed by" in caplog.text


def test_rfc9440_source_explains_an_absent_field_too(caplog: pytest.LogCaptureFixture) -> None:
    send(
        "asgi",
        certificates(ClientCertHeader(trusted_proxies=TRUSTED, verified_by_proxy=True), required=True),
        Request(),
    )
    assert "the proxy sent no field client-cert" in caplog.text
