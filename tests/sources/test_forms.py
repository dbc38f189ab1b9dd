"""Forms of certificate fields: what more products send, and what the log says about the form of another source.

Reports: traefik/traefik#9379, indigo-iam/iam#937, haproxytech/haproxy#20, hashicorp/vault#31557,
MicrosoftDocs/azure-docs#128589.
"""

import logging
from typing import Any
from urllib.parse import quote

import pytest

from mtls_middleware.sources import (
    Apache,
    AzureApplicationGateway,
    AzureAppService,
    Caddy,
    CitrixNetScaler,
    ClientCertHeader,
    CloudFoundry,
    Envoy,
    HAProxy,
    Nginx,
    Traefik,
)
from mtls_middleware.sources.forms import FORMS, form_of
from mtls_middleware.sources.vendors import KNOWN_HEADERS
from mtls_middleware.testing import CertificateAuthority
from tests.sources.requests import TRUST, through_asgi, through_wsgi
from tests.sources.vendor_fields import BY_PROXY, PRESENTED, WORD, Through, base64_der

# A certificate whose base64 has a plus, a slash and padding.
CLIENT = next(
    each
    for each in (CertificateAuthority().issue(f"CN={number}") for number in range(1_000))
    if all(char in base64_der(each) for char in "+/=")
)
BASE64 = base64_der(CLIENT)
ONE_LINE = CLIENT.pem.replace("\n", "")
PLAIN_PEM = CLIENT.pem.strip().replace("\n", " ")

HAPROXY_FIELDS = [
    BASE64, f'"{BASE64}"', f":{BASE64}:", f'":{BASE64}:"', ONE_LINE, PLAIN_PEM,
    f"-----BEGIN CERTIFICATE----- {BASE64} -----END CERTIFICATE-----",
]  # fmt: skip


@pytest.mark.parametrize("value", HAPROXY_FIELDS)
@pytest.mark.parametrize(
    ("word", "verification"),
    [
        ("0", BY_PROXY), ('"0"', BY_PROXY), ("X509_V_OK", BY_PROXY), ('"X509_V_OK"', BY_PROXY),
        ("10", PRESENTED), ("X509_V_ERR_CERT_HAS_EXPIRED", PRESENTED), ('"X509_V_ERR_CERT_REVOKED"', PRESENTED),
        ("X509_V_OK ", None), ("x509_v_ok", None), ("X509_V_OK,X509_V_OK", None), ('"', None), ('"X509_V_OK', None),
        ("X509_V_ERR_", None), ("X509_V_OKAY", None),
    ],
)  # fmt: skip
def test_what_haproxy_sends_is_read(value: str, word: str, verification: Any, through: Through) -> None:
    outcome = through(HAProxy(**TRUST), [("X-SSL-Client-Cert", value), (WORD, word)])
    if verification is None:
        assert outcome.status == 400
    else:
        assert (outcome.thumbprint, outcome.certificate.verification) == (CLIENT.thumbprint, verification)


def test_haproxys_words_for_no_certificate(through: Through) -> None:
    for word in ("0", "X509_V_OK", '"X509_V_OK"', "NONE"):
        for value in ("", '""', "::"):
            outcome = through(HAProxy(**TRUST), [("X-SSL-Client-Cert", value), (WORD, word)])
            assert (outcome.status, outcome.certificate) == (200, None)
    assert through(HAProxy(**TRUST), [("X-SSL-Client-Cert", ""), (WORD, "X509_V_ERR_UNSPECIFIED")]).status == 400


@pytest.mark.parametrize("separator", [",", "%2C"])
def test_escaped_base64_of_older_traefik_is_read(separator: str, through: Through) -> None:
    escaped = quote(BASE64, safe="")
    assert "%2B" in escaped
    authority = CertificateAuthority()
    value = separator.join([escaped, quote(base64_der(authority.issue()), safe="")])
    source = Traefik(verified_by_proxy=True, **TRUST)
    assert through(source, [("X-Forwarded-Tls-Client-Cert", escaped)]).thumbprint == CLIENT.thumbprint
    # A second leaf: a WSGI server may have joined two field lines.
    assert through_wsgi(source, [("X-Forwarded-Tls-Client-Cert", value)]).status == 400
    assert through_asgi(source, [("X-Forwarded-Tls-Client-Cert", value)]).thumbprint == CLIENT.thumbprint
    for bad in (quote(escaped, safe=""), escaped + "%", escaped.replace("%2B", "%2"), escaped + "%00", escaped + "%20"):
        assert through(source, [("X-Forwarded-Tls-Client-Cert", bad)]).status == 400


def test_azure_application_gateway_sends_its_own_word(through: Through) -> None:
    source = AzureApplicationGateway(**TRUST)
    cert, verify = ("X-Client-Cert", quote(CLIENT.pem, safe="")), "X-Client-Verify"
    for word, verification in (("SUCCESS", BY_PROXY), ("PASSTHROUGH", PRESENTED), ("FAILED:expired", PRESENTED)):
        outcome = through(source, [cert, (verify, word)])
        assert (outcome.thumbprint, outcome.certificate.verification) == (CLIENT.thumbprint, verification)
    assert through(source, [cert, (verify, "PASSTHROUGH")], required=True).status == 403
    for word in ("", "NONE", "passthrough", "0", "PASSTHROUGH,SUCCESS"):
        assert through(source, [cert, (verify, word)]).status == 400
    assert through(source, [cert]).status == 400
    for word in ("NONE", "PASSTHROUGH", ""):
        assert through(source, [("X-Client-Cert", ""), (verify, word)]).certificate is None
    assert through(source, [("X-Client-Cert", ""), (verify, "SUCCESS")]).status == 400


def test_netscaler_sends_pem_without_line_breaks(through: Through) -> None:
    source = CitrixNetScaler(verified_by_proxy=True, **TRUST)
    for value in (ONE_LINE, PLAIN_PEM):
        outcome = through(source, [("X-Client-Cert", value)], required=True)
        assert (outcome.status, outcome.thumbprint) == (200, CLIENT.thumbprint)
    for bad in (ONE_LINE * 2, ONE_LINE + "x", ONE_LINE.replace("MII", "M II"), BASE64, ONE_LINE[:-1], "x" + ONE_LINE):
        assert through(source, [("X-Client-Cert", bad)]).status == 400


def test_cloud_foundry_sends_bare_base64(through: Through) -> None:
    field = ("X-Forwarded-Client-Cert", BASE64)
    assert through(CloudFoundry(**TRUST), [field]).certificate.verification is PRESENTED
    assert through(CloudFoundry(verified_by_proxy=True, **TRUST), [field], required=True).status == 200
    haproxy = CloudFoundry(verify_header="X-SSL-Client-Verify", **TRUST)
    assert through(haproxy, [field, (WORD, "0")], required=True).status == 200
    assert through(haproxy, [field]).status == 400
    assert through(CloudFoundry(**TRUST), [(field[0], f'Hash={"0" * 64};Cert="{quote(CLIENT.pem)}"')]).status == 400


def test_the_layer_removes_the_fields_of_every_source() -> None:
    for source in (AzureApplicationGateway(**TRUST), CitrixNetScaler(**TRUST), CloudFoundry(**TRUST)):
        assert source.drop_headers <= KNOWN_HEADERS


FIELD = {
    "ClientCertHeader": f":{BASE64}:",
    "Envoy": f'By=spiffe://td/x;Cert="{quote(CLIENT.pem, safe="")}"',
    "Nginx": quote(CLIENT.pem, safe=""),
    "CitrixNetScaler": ONE_LINE,
    "CloudFoundry": BASE64,
    "Traefik": quote(BASE64, safe=""),
    "HAProxy": f'"{BASE64}"',
}
READERS: list[tuple[Any, str]] = [
    (ClientCertHeader(**TRUST), "Client-Cert"),
    (Envoy(**TRUST), "X-Forwarded-Client-Cert"),
    (Nginx(verify_header=False, **TRUST), "X-SSL-Client-Cert"),
    (Apache(verify_header=False, **TRUST), "X-SSL-Client-Cert"),
    (CitrixNetScaler(**TRUST), "X-Client-Cert"),
    (CloudFoundry(**TRUST), "X-Forwarded-Client-Cert"),
    (AzureAppService(**TRUST), "X-ARR-ClientCert"),
    (Traefik(**TRUST), "X-Forwarded-Tls-Client-Cert"),
    (Caddy(**TRUST), "X-SSL-Client-Cert"),
    (HAProxy(verify_header=False, **TRUST), "X-SSL-Client-Cert"),
]


@pytest.mark.parametrize("kind", FIELD)
@pytest.mark.parametrize(("source", "name"), READERS, ids=lambda each: type(each).__name__)
def test_the_log_names_the_source_that_reads_the_field(
    kind: str, source: Any, name: str, through: Through, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mtls_middleware.decision")
    outcome = through(source, [(name, FIELD[kind])])
    if outcome.status == 200:
        assert outcome.thumbprint == CLIENT.thumbprint
        assert "sources that read this form" not in caplog.text
    else:
        assert outcome.status == 400
        form = next(each for each in FORMS if kind in each.sources)
        assert form.name in caplog.text or "HAProxy" in caplog.text
        assert kind in caplog.text
        assert BASE64[:40] not in caplog.text


@pytest.mark.parametrize(
    ("source", "word", "named"),
    [
        (Nginx(**TRUST), "0", "HAProxy"),
        (Nginx(**TRUST), "X509_V_OK", "HAProxy"),
        (Nginx(**TRUST), "PASSTHROUGH", "AzureApplicationGateway"),
        (HAProxy(**TRUST), "true", "GoogleCloudLoadBalancer or Cloudflare"),
        (Apache(**TRUST), "unheard-of", None),
    ],
)
def test_the_log_names_the_source_that_reads_the_word(
    source: Any, word: str, named: str | None, through: Through, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mtls_middleware.decision")
    assert through(source, [("X-SSL-Client-Cert", BASE64), (WORD, word)]).status == 400
    if named is None:
        assert "a verification word that" not in caplog.text
    else:
        assert f"it is a verification word that {named} reads" in caplog.text


def test_what_is_no_certificate_has_no_form() -> None:
    for value in ("", "x", "AAAA", ":AAAA:", "-----BEGIN CERTIFICATE-----AAAA-----END CERTIFICATE-----", "%", "By=x"):
        assert form_of(value) is None
