"""One source and no other, and the sources' traps, as a request meets them."""

from typing import Any

import pytest

from mtls_middleware import ConfigurationError, Verification
from mtls_middleware.policy import Subject
from mtls_middleware.sources import AWSLoadBalancer, Envoy, Nginx, ServerTLS
from mtls_middleware.testing import IssuedCertificate
from tests.gateways import PROXY, STRANGER, Request, both_gateways, send
from tests.layers.formats import SOURCES
from tests.layers.world import SECRET, TRUSTED, certificates, nginx


@both_gateways
@pytest.mark.standard("I10", "K8")
def test_no_header_is_read_that_is_not_configured(gateway: str, mtls_client: IssuedCertificate) -> None:
    headers = [
        *nginx(mtls_client),
        *mtls_client.as_client_cert().items(),
        ("SSL-Client-Cert", mtls_client.pem.replace("\n", " ")),
        ("SSL-Client-Verify", "SUCCESS"),
    ]
    assert send(gateway, certificates(ServerTLS()), Request(headers=headers)).application.certificate is None
    traefik = certificates(SOURCES["Traefik"])
    assert send(gateway, traefik, Request(headers=headers)).application.certificate is None


@both_gateways
@pytest.mark.standard("J8")
def test_server_or_header_is_configured_never_whichever_has_one(
    gateway: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    """The proxy's own certificate on the connection, the client's in the header; then each of them alone."""
    both = Request(tls=mtls_other_client, headers=nginx(mtls_client))
    assert send(gateway, certificates(), both).application.certificate == mtls_client.client_certificate()
    by_server = send(gateway, certificates(ServerTLS()), both).application.certificate
    assert by_server == mtls_other_client.client_certificate()
    assert send(gateway, certificates(), Request(tls=mtls_other_client)).application.certificate is None
    empty = Request(headers=nginx(mtls_client), extra={"extensions": {"tls": {"client_cert_chain": []}}})
    assert send(gateway, certificates(ServerTLS()), empty).application.certificate is None


@both_gateways
def test_proxys_own_certificate_is_trust_and_never_the_client(
    gateway: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    source = Nginx(proxy_certificate=Subject("CN=other,O=Tests"))
    headers = nginx(mtls_client)
    seen = send(gateway, certificates(source), Request(tls=mtls_other_client, headers=headers)).application
    assert seen.certificate == mtls_client.client_certificate()
    for request in (
        Request(tls=mtls_client, headers=headers),
        Request(tls=mtls_other_client, verified=False, headers=headers),
        Request(headers=headers),
        Request(tls=mtls_other_client),
    ):
        assert send(gateway, certificates(source), request).application.certificate is None


@both_gateways
def test_every_kind_of_trust_must_hold(gateway: str, mtls_client: IssuedCertificate) -> None:
    wrap = certificates(Nginx(trusted_proxies=TRUSTED, shared_secret=SECRET))
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


# The sources' traps, as a request meets them


@both_gateways
def test_caches_tell_verifications_apart(gateway: str, mtls_client: IssuedCertificate) -> None:
    """Certificates are equal whoever vouches for them; what was remembered of one must not answer for the other."""
    wrap = certificates()
    for word, expected in [("SUCCESS", "BY_PROXY"), ("FAILED:x", "PRESENTED"), ("SUCCESS", "BY_PROXY")]:
        seen = send(gateway, wrap, Request(headers=nginx(mtls_client, word))).application
        assert seen.certificate is not None
        assert seen.certificate.verification.name == expected


@both_gateways
def test_a_server_certificate_is_verified_only_by_the_servers_result(
    gateway: str, mtls_client: IssuedCertificate
) -> None:
    wrap = certificates(ServerTLS())
    for verified, expected in [(True, Verification.BY_SERVER), (False, Verification.PRESENTED)] * 2:
        seen = send(gateway, wrap, Request(tls=mtls_client, verified=verified)).application
        assert seen.certificate is not None
        assert seen.certificate.verification is expected


def test_certificate_of_unknown_origin_in_environ_is_presented(mtls_client: IssuedCertificate) -> None:
    bare = Request(extra={"SSL_CLIENT_CERT": mtls_client.pem})
    seen = send("wsgi", certificates(ServerTLS()), bare).application
    assert seen.certificate is not None
    assert seen.certificate.verification is Verification.PRESENTED
    assert send("wsgi", certificates(ServerTLS(), required=True), bare).status == 403


@both_gateways
def test_aws_reads_the_header_of_its_mode_alone(gateway: str, mtls_client: IssuedCertificate) -> None:
    value = mtls_client.as_nginx()["X-SSL-Client-Cert"]
    headers = {"verify": "X-Amzn-Mtls-Clientcert-Leaf", "passthrough": "X-Amzn-Mtls-Clientcert"}
    for mode, header in headers.items():
        source = SOURCES[f"AWS {mode}"]
        for given in headers.values():
            certificate = send(gateway, certificates(source), Request(headers=[(given, value)])).application.certificate
            assert (certificate is not None) is (given == header)
            if certificate is not None:
                expected = Verification.BY_PROXY if mode == "verify" else Verification.PRESENTED
                assert certificate.verification is expected
    with pytest.raises((ConfigurationError, TypeError)):
        AWSLoadBalancer(trusted_proxies=TRUSTED)


@both_gateways
def test_envoy_takes_the_element_that_hops_names(
    gateway: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    evil, good = (f'Cert="{each.as_nginx()["X-SSL-Client-Cert"]}"' for each in (mtls_other_client, mtls_client))
    request = Request(headers=[("X-Forwarded-Client-Cert", f"{evil},{good}")])

    def found(hops: int | None) -> Any:
        source = Envoy(trusted_proxies=TRUSTED, verified_by_proxy=True, hops=hops)
        return send(gateway, certificates(source), request)

    assert found(None).status == 400
    assert found(0).application.certificate == mtls_client.client_certificate()
    assert found(1).application.certificate == mtls_other_client.client_certificate()
    assert found(2).status == 400
