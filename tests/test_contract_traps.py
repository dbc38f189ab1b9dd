"""Forgeries and traps at the gateways: what is stripped, what is trusted, what is logged. DESIGN 1.3, and "Traps"."""

import ast
import logging
import re
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import mtls_middleware
from mtls_middleware import ConfigurationError, Verification
from mtls_middleware.policy import Presented, Subject
from mtls_middleware.sources import (
    Apache,
    AWSLoadBalancer,
    AzureAppService,
    Caddy,
    ClientCertHeader,
    Cloudflare,
    Envoy,
    GoogleCloudLoadBalancer,
    HAProxy,
    HeaderSource,
    Nginx,
    ServerTLS,
    Traefik,
)
from mtls_middleware.sources.vendors import KNOWN_HEADERS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import PROXY, STRANGER, Request, Wrap, both_gateways, send

TRUSTED = ["10.0.0.0/8"]
SECRET = ("X-Proxy-Secret", "correct horse battery staple")
KNOWN = sorted(KNOWN_HEADERS)

# The thirteen formats, each under its own names.
SOURCES: dict[str, HeaderSource] = {
    "RFC 9440": ClientCertHeader(trusted_proxies=TRUSTED, verified_by_proxy=True),
    "nginx": Nginx(trusted_proxies=TRUSTED),
    "ingress-nginx": Nginx(
        trusted_proxies=TRUSTED, certificate_header="ssl-client-cert", verify_header="ssl-client-verify"
    ),
    "Apache": Apache(trusted_proxies=TRUSTED),
    "HAProxy": HAProxy(trusted_proxies=TRUSTED),
    "Envoy": Envoy(trusted_proxies=TRUSTED, verified_by_proxy=True),
    "Traefik": Traefik(trusted_proxies=TRUSTED, verified_by_proxy=True),
    "Caddy": Caddy(trusted_proxies=TRUSTED, verified_by_proxy=True),
    "AWS verify": AWSLoadBalancer(mode="verify", trusted_proxies=TRUSTED),
    "AWS passthrough": AWSLoadBalancer(mode="passthrough", trusted_proxies=TRUSTED),
    "Google": GoogleCloudLoadBalancer(trusted_proxies=TRUSTED),
    "Azure": AzureAppService(trusted_proxies=TRUSTED),
    "Cloudflare": Cloudflare(trusted_proxies=TRUSTED),
}


def layer(source: Any = None, **options: Any) -> Wrap:
    chosen = Nginx(trusted_proxies=TRUSTED) if source is None else source
    return lambda gateway, app: gateway.ClientCertificateMiddleware(app, chosen, **options)


def nginx(certificate: IssuedCertificate, verify: str | None = "SUCCESS") -> list[tuple[str, str]]:
    certificate_field, verify_field = certificate.as_nginx(verify=verify or "").items()
    return [certificate_field] if verify is None else [certificate_field, verify_field]


# Stripping


@both_gateways
@pytest.mark.parametrize("peer", [PROXY, STRANGER, None])
@pytest.mark.parametrize("spelling", ["Title-Case", "lower-case", "under_score", "UNDER_SCORE"])
@pytest.mark.case("001", "002", "003")
@pytest.mark.standard("I9")
def test_application_never_reads_a_certificate_header(gateway: str, peer: str | None, spelling: str) -> None:
    spell = {
        "Title-Case": str.title,
        "lower-case": str.lower,
        "under_score": lambda name: name.replace("-", "_"),
        "UNDER_SCORE": lambda name: name.replace("-", "_").upper(),
    }[spelling]
    source = ServerTLS()  # reads no header, so none can be malformed
    request = Request(peer=peer, headers=[("Accept", "*/*"), *((spell(name), "EVIL") for name in KNOWN)])
    seen = send(gateway, layer(source), request).application
    assert seen.headers == {"accept": "*/*"}
    assert seen.certificate is None


@both_gateways
@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.case("003")
def test_strangers_headers_of_all_formats_are_ignored(gateway: str, name: str, mtls_client: IssuedCertificate) -> None:
    evil = dict.fromkeys(KNOWN, mtls_client.as_nginx()["X-SSL-Client-Cert"])
    request = Request(peer=STRANGER, headers=list(evil.items()))
    seen = send(gateway, layer(SOURCES[name]), request).application
    assert (seen.certificate, seen.headers) == (None, {})
    if SOURCES[name].can_verify:
        assert send(gateway, layer(SOURCES[name], required=True), request).status == 403


@both_gateways
@pytest.mark.parametrize("peer", [PROXY, STRANGER])
def test_own_names_and_the_secret_are_stripped_too(gateway: str, peer: str) -> None:
    source = Nginx(
        trusted_proxies=TRUSTED, shared_secret=SECRET, certificate_header="X-Own-Cert", verify_header="X-Own-Verify"
    )
    given = [("X-Own-Cert", ""), ("X-Own-Verify", "NONE"), SECRET, ("X-Other", "1")]
    assert send(gateway, layer(source), Request(peer=peer, headers=given)).application.headers == {"x-other": "1"}
    twins = [(name.replace("-", "_"), value) for name, value in given]
    seen = send(gateway, layer(source), Request(peer=peer, headers=twins)).application
    assert {name.replace("_", "-") for name in seen.headers} == {"x-other"}


def test_uwsgi_twin_with_a_blank_is_stripped() -> None:
    """uWSGI keeps the blank of `X-SSL-Client-Cert : value` in the key."""
    forged = {"HTTP_X_SSL_CLIENT_CERT ": "EVIL", "HTTP_CLIENT_CERT ": "EVIL"}
    seen = send("wsgi", layer(), Request(extra=forged)).application
    assert not seen.headers


def test_asgi_names_are_compared_without_case() -> None:
    raw = {"headers": [[b"X-SSL-Client-Cert", b"EVIL"], [b"x_SSL-client_CERT", b"EVIL"], [b"Accept", b"*/*"]]}
    seen = send("asgi", layer(ServerTLS()), Request(extra=raw)).application
    assert seen.headers == {"Accept": "*/*"}


# Who is believed, and what is one statement


@both_gateways
@pytest.mark.parametrize("peer", [PROXY, "::ffff:10.0.0.5"])
def test_trusted_peer_gives_the_certificate(gateway: str, peer: str, mtls_client: IssuedCertificate) -> None:
    seen = send(gateway, layer(), Request(peer=peer, headers=nginx(mtls_client))).application
    assert seen.certificate == mtls_client.client_certificate()
    assert seen.certificate.verification is Verification.BY_PROXY


@both_gateways
@pytest.mark.parametrize(
    "peer", ["", "localhost", "<local>", None, "unix", "testclient", "010.0.0.5", "10.0.0.5%eth0", "fe80::1%1", "10.1"]
)
@pytest.mark.case("017")
def test_peer_without_an_address_is_nobody(gateway: str, peer: str | None, mtls_client: IssuedCertificate) -> None:
    request = Request(peer=peer, headers=nginx(mtls_client))
    for trusted in (TRUSTED, [*TRUSTED, "unix"]):
        assert send(gateway, layer(Nginx(trusted_proxies=trusted), required=True), request).status == 403


CLIENTS: list[tuple[Any, Any, bool]] = [
    (None, ("/run/app.sock", None), True),
    (None, ["/run/app.sock", None], True),
    (("", 0), ("/run/app.sock", None), True),
    (None, None, False),
    (None, ("127.0.0.1", 8000), False),
    (("", 0), ("127.0.0.1", 8000), False),
    (("", "0"), None, False),
    (None, ("", None), False),
    (None, ("/run/app.sock", 8000), False),
    (("127.0.0.1", 5), ("/run/app.sock", None), False),
]


@pytest.mark.parametrize(("client", "server", "trusted"), CLIENTS)
@pytest.mark.case("017")
def test_asgi_unix_peer_is_the_servers_own_word(
    client: Any, server: Any, trusted: bool, mtls_client: IssuedCertificate
) -> None:
    request = Request(headers=nginx(mtls_client), extra={"client": client, "server": server})
    by_unix = layer(Nginx(trusted_proxies=["unix"]), required=True)
    assert send("asgi", by_unix, request).status == (200 if trusted else 403)
    assert send("asgi", layer(required=True), request).status == 403  # networks alone never mean unix


@both_gateways
@pytest.mark.parametrize("second", ["same", "other", "empty", "rubbish"])
@pytest.mark.case("009", "010", "011", "028")
def test_two_values_are_refused_and_none_is_chosen(
    gateway: str, second: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    (name, good), (verify, word) = nginx(mtls_client)
    more = {"same": good, "other": nginx(mtls_other_client)[0][1], "empty": "", "rubbish": "EVIL"}[second]
    for fields in (
        [(name, good), (name, more), (verify, word)],
        [(name, more), (name, good), (verify, word)],
        [(name, good), (verify, word), (verify, {"same": word}.get(second, "FAILED:x"))],
        [(name, good), (verify, "FAILED:x"), (verify, word)],
    ):
        result = send(gateway, layer(), Request(headers=fields))
        assert (result.status, result.seen) == (400, None)


@pytest.mark.case("007")
def test_underscores_alone_are_no_header_of_ours_in_asgi(mtls_client: IssuedCertificate) -> None:
    evil = [(name.replace("-", "_"), value) for name, value in nginx(mtls_client)]
    assert send("asgi", layer(), Request(headers=evil)).application.certificate is None
    assert send("asgi", layer(required=True), Request(headers=evil)).status == 403


@pytest.mark.case("007")
def test_underscores_beside_the_real_header_change_nothing_in_asgi(
    mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    evil = [(name.replace("-", "_"), value) for name, value in nginx(mtls_other_client)]
    for headers in (nginx(mtls_client) + evil, evil + nginx(mtls_client)):
        seen = send("asgi", layer(), Request(headers=headers)).application
        assert seen.certificate == mtls_client.client_certificate()
        assert not seen.headers


@pytest.mark.parametrize("software", ["Cheroot/11.1.2", "granian", "WSGIServer/0.2 CPython/3.11.9"])
@pytest.mark.case("005")
def test_wsgi_server_that_hides_forgeries_is_refused_for_headers(
    software: str, mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    request = Request(headers=nginx(mtls_client), extra={"SERVER_SOFTWARE": software})
    result = send("wsgi", layer(exempt=["/"]), request)
    assert (result.status, result.seen) == (500, None)
    assert "use another server" in caplog.text
    assert send("wsgi", layer(ServerTLS()), request).application.certificate is None


@pytest.mark.parametrize("software", ["gunicorn/27.0.1", "waitress", "gevent/26.9 Python/3.11", "Werkzeug/3.1.9", ""])
@pytest.mark.case("005")
def test_wsgi_server_that_drops_underscores_is_fine(software: str, mtls_client: IssuedCertificate) -> None:
    request = Request(headers=nginx(mtls_client), extra={"SERVER_SOFTWARE": software})
    assert send("wsgi", layer(), request).application.certificate is not None


@both_gateways
@pytest.mark.parametrize(
    ("word", "status"),
    [
        (None, 400),
        ("NONE", 400),
        ("", 400),
        ("success", 400),
        ("SUCCESS ", 400),
        ("FAILED:self signed certificate", 403),
        ("SUCCESS", 200),
    ],
)
@pytest.mark.case("024", "025", "026")
def test_certificate_and_word_tell_one_story(
    gateway: str, word: str | None, status: int, mtls_client: IssuedCertificate
) -> None:
    assert send(gateway, layer(required=True), Request(headers=nginx(mtls_client, word))).status == status


@both_gateways
@pytest.mark.case("026")
def test_success_without_certificate_is_malformed(gateway: str) -> None:
    for fields in ([], [("X-SSL-Client-Cert", "")]):
        request = Request(headers=[*fields, ("X-SSL-Client-Verify", "SUCCESS")])
        assert send(gateway, layer(), request).status == 400
        none = Request(headers=[*fields, ("X-SSL-Client-Verify", "NONE")])
        assert send(gateway, layer(), none).application.certificate is None


@both_gateways
@pytest.mark.case("025")
@pytest.mark.parametrize("allow", [Subject("CN=client,O=Tests"), ~Subject("CN=x"), lambda certificate: True])
def test_failed_verification_is_presented_and_satisfies_no_identity(
    gateway: str, allow: Any, mtls_client: IssuedCertificate
) -> None:
    request = Request(headers=nginx(mtls_client, "FAILED:self signed certificate"))
    seen = send(gateway, layer(), request).application
    assert seen.certificate is not None
    assert seen.certificate.verification is Verification.PRESENTED
    assert send(gateway, layer(allow=allow), request).status == 403
    assert send(gateway, layer(allow=Presented(lambda certificate: True)), request).status == 200


# One source and no other


@both_gateways
@pytest.mark.standard("I10", "K8")
def test_no_header_is_read_that_is_not_configured(gateway: str, mtls_client: IssuedCertificate) -> None:
    headers = [
        *nginx(mtls_client),
        *mtls_client.as_client_cert().items(),
        ("SSL-Client-Cert", mtls_client.pem.replace("\n", " ")),
        ("SSL-Client-Verify", "SUCCESS"),
    ]
    assert send(gateway, layer(ServerTLS()), Request(headers=headers)).application.certificate is None
    traefik = layer(SOURCES["Traefik"])
    assert send(gateway, traefik, Request(headers=headers)).application.certificate is None


@both_gateways
@pytest.mark.standard("J8")
def test_server_or_header_is_configured_never_whichever_has_one(
    gateway: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    """The proxy's own certificate on the connection, the client's in the header; then each of them alone."""
    both = Request(tls=mtls_other_client, headers=nginx(mtls_client))
    assert send(gateway, layer(), both).application.certificate == mtls_client.client_certificate()
    by_server = send(gateway, layer(ServerTLS()), both).application.certificate
    assert by_server == mtls_other_client.client_certificate()
    assert send(gateway, layer(), Request(tls=mtls_other_client)).application.certificate is None
    empty = Request(headers=nginx(mtls_client), extra={"extensions": {"tls": {"client_cert_chain": []}}})
    assert send(gateway, layer(ServerTLS()), empty).application.certificate is None


@both_gateways
def test_proxys_own_certificate_is_trust_and_never_the_client(
    gateway: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    source = Nginx(proxy_certificate=Subject("CN=other,O=Tests"))
    headers = nginx(mtls_client)
    seen = send(gateway, layer(source), Request(tls=mtls_other_client, headers=headers)).application
    assert seen.certificate == mtls_client.client_certificate()
    for request in (
        Request(tls=mtls_client, headers=headers),
        Request(tls=mtls_other_client, verified=False, headers=headers),
        Request(headers=headers),
        Request(tls=mtls_other_client),
    ):
        assert send(gateway, layer(source), request).application.certificate is None


@both_gateways
def test_every_kind_of_trust_must_hold(gateway: str, mtls_client: IssuedCertificate) -> None:
    wrap = layer(Nginx(trusted_proxies=TRUSTED, shared_secret=SECRET))
    headers = nginx(mtls_client)
    name, value = SECRET
    for peer, secrets, trusted in [
        (PROXY, [SECRET], True),
        (STRANGER, [SECRET], False),
        (PROXY, [], False),
        (PROXY, [(name, value + "x")], False),
        (PROXY, [(name, "")], False),
        (PROXY, [SECRET, SECRET], False),
        (PROXY, [(name, "\xe4")], False),
    ]:
        seen = send(gateway, wrap, Request(peer=peer, headers=[*headers, *secrets])).application
        assert (seen.certificate is not None) is trusted
        assert name.lower() not in seen.headers


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"trusted_proxies": []},
        {"trusted_proxies": "10.0.0.0/8"},
        {"trusted_proxies": ["0.0.0.0/0"]},
        {"trusted_proxies": ["::/0"]},
        {"trusted_proxies": ["*"]},
        {"trusted_proxies": ["::ffff:0:0/96"]},
        {"trusted_proxies": ["0.0.0.0/1", "128.0.0.0/1"]},
        {"trusted_proxies": ["10.0.0.5/8"]},
        {"trusted_proxies": ["proxy.internal"]},
        {"shared_secret": ("X-Proxy-Secret", "")},
        {"shared_secret": ("X-Proxy-Secret", "fifteen letters")},
        {"shared_secret": "X-Proxy-Secret"},
        {"trusted_proxies": TRUSTED, "shared_secret": ("X-Proxy-Secret", "short")},
    ],
)
def test_trust_that_is_none_cannot_be_constructed(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Nginx(**options)


def test_claims_are_read_only_all_the_way_down(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    def wrap(module: Any, app: Any) -> Any:
        return module.protect(app, source=ServerTLS(), tokens=mtls_issuer.access_tokens())

    text = mtls_issuer.token(certificate=mtls_client, claims={"deep": [{"list": [1, {"x": 1}]}]})
    request = Request(tls=mtls_client, headers=[("Authorization", f"Bearer {text}")])
    token = send("wsgi", wrap, request).application.token
    assert token is not None
    deep = token.claims["deep"]
    assert isinstance(deep, tuple)
    assert isinstance(deep[0]["list"], tuple)
    assert {type(each) for each in (token.claims, deep[0], deep[0]["list"][1])} == {MappingProxyType}


# What is written down, and what is not

HOSTILE = "\r\n\x1b[2JINFO all is well"


@both_gateways
@pytest.mark.parametrize("case", ["400", "401", "403", "500", "ignored", "misplaced"])
@pytest.mark.case("155", "156")
def test_logs_and_answers_quote_nothing_of_the_request(
    gateway: str, case: str, mtls_ca: Any, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = mtls_ca.issue('CN=mallory\\"\\0D\\0A\\1B[2Jevil,O=Tests', dns=["mallory.example.test"])
    token = mtls_issuer.token(certificate=client, claims={"exp": 1} if case == "401" else {}, scopes=["read"])

    class Quoting:
        def validate(self, text: str, _now: float) -> Any:
            raise RuntimeError(f"cannot read {text} of {client.pem}")

    def wrap(module: Any, app: Any) -> Any:
        source = Nginx(trusted_proxies=TRUSTED, shared_secret=SECRET)
        tokens = Quoting() if case == "500" else mtls_issuer.access_tokens()
        inner = module.CertificateBoundTokenMiddleware(app, tokens, scopes=["write"])
        return inner if case == "misplaced" else module.ClientCertificateMiddleware(inner, source)

    certificate, verify = nginx(client)
    headers = [certificate, verify, SECRET, ("Authorization", f"Bearer {token}")]
    if case == "400":
        headers[0] = (certificate[0], certificate[1] + "%00")
    request = Request(
        headers=headers, path="/x" + HOSTILE, method="G" + HOSTILE, peer=STRANGER if case == "ignored" else PROXY
    )
    result = send(gateway, wrap, request)
    status = {"misplaced": 500, "ignored": 401}.get(case) or int(case)
    assert (result.status, result.seen) == (status, None)

    lines = [logging.Formatter("%(levelname)s %(message)s").format(each) for each in caplog.records]
    answer = result.body.decode() + repr(result.headers)
    assert lines
    base64_of_pem = client.pem.split("\n")[1]
    for secret in (token, token.split(".")[1], token.split(".")[2], SECRET[1], base64_of_pem, "Bearer ey", "mallory"):
        assert not [line for line in lines if secret in line]
        assert secret not in answer
    for line in lines:
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", line)
        assert "\nINFO all is well" not in line
    assert "all is well" not in answer
    assert re.fullmatch(r"[\x20-\x7e]*", result.body.decode())


@both_gateways
@pytest.mark.parametrize("error", ["invalid_token", "invalid_request", "insufficient_scope"])
@pytest.mark.standard("G8", "G9")
@pytest.mark.case("156")
def test_challenge_holds_each_parameter_once_in_its_characters(
    gateway: str, error: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    def wrap(module: Any, app: Any) -> Any:
        inner = module.CertificateBoundTokenMiddleware(
            app,
            mtls_issuer.access_tokens(),
            scopes=["write", "read"],
            resource_metadata="https://api.test/.well-known/oauth-protected-resource",
        )
        return module.ClientCertificateMiddleware(inner, ServerTLS())

    sub = 'a", error="none\r\nX-Evil: 1\\'
    text = mtls_issuer.token(
        certificate=mtls_client, claims={"sub": sub, "exp": 1 if error == "invalid_token" else ...}
    )
    if error == "insufficient_scope":
        text = mtls_issuer.token(certificate=mtls_client, claims={"sub": sub, "scope": 'x" error="none'})
    if error == "invalid_request":
        text += '", error="none'
    result = send(gateway, wrap, Request(tls=mtls_client, headers=[("Authorization", f"Bearer {text}")]))
    challenge = result.header("WWW-Authenticate") or ""
    assert re.fullmatch(r'Bearer (?:[a-z_]+="[\x20-\x21\x23-\x5b\x5d-\x7e]+"(?:, |$))+', challenge)
    names = re.findall(r'([a-z_]+)="', challenge)
    assert len(names) == len(set(names))
    assert f'error="{error}"' in challenge
    assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", re.findall(r'error_description="([^"]+)"', challenge)[0])


@pytest.mark.case("158")
def test_secrets_and_thumbprints_are_compared_in_constant_time() -> None:
    """By reading the source: these two files compare with `hmac.compare_digest`, and no digest by `==`."""
    package = Path(mtls_middleware.__file__).parent
    for name in ("resource_server/binding.py", "sources/trust.py"):
        tree = ast.parse((package / name).read_text("utf-8"))
        calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert "hmac.compare_digest" in calls, name
        compared = " ".join(
            ast.unparse(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Eq, ast.NotEq))
        )
        assert not re.search(r"digest|thumbprint|x5t|secret|\bgiven\b(?!\))", compared), name


# The sources' traps, as a request meets them


@both_gateways
def test_caches_tell_verifications_apart(gateway: str, mtls_client: IssuedCertificate) -> None:
    """Certificates are equal whoever vouches for them; what was remembered of one must not answer for the other."""
    wrap = layer()
    for word, expected in [("SUCCESS", "BY_PROXY"), ("FAILED:x", "PRESENTED"), ("SUCCESS", "BY_PROXY")]:
        seen = send(gateway, wrap, Request(headers=nginx(mtls_client, word))).application
        assert seen.certificate is not None
        assert seen.certificate.verification.name == expected


@both_gateways
def test_server_is_believed_by_its_own_word_alone(gateway: str, mtls_client: IssuedCertificate) -> None:
    wrap = layer(ServerTLS())
    for verified, expected in [(True, Verification.BY_SERVER), (False, Verification.PRESENTED)] * 2:
        seen = send(gateway, wrap, Request(tls=mtls_client, verified=verified)).application
        assert seen.certificate is not None
        assert seen.certificate.verification is expected


def test_certificate_of_unknown_origin_in_environ_is_presented(mtls_client: IssuedCertificate) -> None:
    bare = Request(extra={"SSL_CLIENT_CERT": mtls_client.pem})
    seen = send("wsgi", layer(ServerTLS()), bare).application
    assert seen.certificate is not None
    assert seen.certificate.verification is Verification.PRESENTED
    assert send("wsgi", layer(ServerTLS(), required=True), bare).status == 403


@both_gateways
def test_aws_reads_the_header_of_its_mode_alone(gateway: str, mtls_client: IssuedCertificate) -> None:
    value = mtls_client.as_nginx()["X-SSL-Client-Cert"]
    headers = {"verify": "X-Amzn-Mtls-Clientcert-Leaf", "passthrough": "X-Amzn-Mtls-Clientcert"}
    for mode, header in headers.items():
        source = SOURCES[f"AWS {mode}"]
        for given in headers.values():
            certificate = send(gateway, layer(source), Request(headers=[(given, value)])).application.certificate
            assert (certificate is not None) is (given == header)
            if certificate is not None:
                expected = Verification.BY_PROXY if mode == "verify" else Verification.PRESENTED
                assert certificate.verification is expected
    with pytest.raises((ConfigurationError, TypeError)):
        AWSLoadBalancer(trusted_proxies=TRUSTED)  # type: ignore[call-arg]


@both_gateways
def test_envoy_takes_the_element_that_hops_names(
    gateway: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    evil, good = (f'Cert="{each.as_nginx()["X-SSL-Client-Cert"]}"' for each in (mtls_other_client, mtls_client))
    request = Request(headers=[("X-Forwarded-Client-Cert", f"{evil},{good}")])

    def found(hops: int | None) -> Any:
        source = Envoy(trusted_proxies=TRUSTED, verified_by_proxy=True, hops=hops)
        return send(gateway, layer(source), request)

    assert found(None).status == 400
    assert found(0).application.certificate == mtls_client.client_certificate()
    assert found(1).application.certificate == mtls_other_client.client_certificate()
    assert found(2).status == 400
