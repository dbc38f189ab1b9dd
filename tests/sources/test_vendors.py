"""Each vendor's words and encodings, and that a certificate and its word tell the same story (cases 024 to 029)."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import pytest

from mtls_middleware import Verification
from mtls_middleware.policy import Subject, Thumbprint
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
    Traefik,
)
from mtls_middleware.sources.vendors import KNOWN_HEADERS
from mtls_middleware.testing import IssuedCertificate
from tests.sources.requests import GATEWAYS, STRANGER, TRUST, Outcome, through_asgi, through_wsgi

CERT, WORD = "X-SSL-Client-Cert", "X-SSL-Client-Verify"
BY_PROXY, PRESENTED = Verification.BY_PROXY, Verification.PRESENTED

Through = Callable[..., Outcome]


def base64_der(certificate: IssuedCertificate) -> str:
    return base64.b64encode(certificate.der).decode("ascii")


def folded(certificate: IssuedCertificate) -> str:
    return certificate.pem.replace("\n", " ")


# ---- the word

Written = Callable[[IssuedCertificate], str]
WORDED: dict[str, tuple[HeaderSource, Written]] = {
    "nginx": (Nginx(**TRUST), lambda each: quote(each.pem, safe="")),
    "apache": (Apache(**TRUST), folded),
    "haproxy": (HAProxy(**TRUST), base64_der),
}
SUCCESSES = {"nginx": ["SUCCESS"], "apache": ["SUCCESS"], "haproxy": ["SUCCESS", "0"]}
FAILURES = {
    "nginx": ["FAILED:self-signed certificate", "FAILED:certificate has expired", "FAILED", "FAILED:"],
    "apache": ["FAILED:self-signed certificate", "GENEROUS", "FAILED"],
    "haproxy": ["10", "00", "18", "21", "26", "FAILED:18:0", "FAILED"],
}
# Prefixes, other cases, other vendors' words, two words joined by a server.
UNKNOWN = [
    *("success", "Success", "SUCCESS ", " SUCCESS", "SUCCESSFUL", "SUCCESS,SUCCESS", "SUCCESS, FAILED:x", "OK", "true"),
    *(
        "none",
        "failed",
        "FAILEDx",
        "FAILED:x,SUCCESS",
        "NONE,SUCCESS",
        "1.0",
        "-1",
        "00000000",
        "\u0660",
        "0x0",
        "valid",
    ),
]
worded = pytest.mark.parametrize("vendor", WORDED)


def told(vendor: str, certificate: IssuedCertificate | None, *words: str) -> tuple[HeaderSource, list[tuple[str, str]]]:
    source, written = WORDED[vendor]
    headers = [] if certificate is None else [(CERT, written(certificate))]
    return source, [*headers, *((WORD, word) for word in words)]


@worded
def test_the_word_of_success_is_verified(vendor: str, mtls_client: IssuedCertificate, through: Through) -> None:
    for word in SUCCESSES[vendor]:
        outcome = through(*told(vendor, mtls_client, word), required=True)
        assert (outcome.status, outcome.thumbprint) == (200, mtls_client.thumbprint)
        assert outcome.certificate is not None
        assert outcome.certificate.verification is BY_PROXY


@pytest.mark.case("025")
@pytest.mark.standard("I13")
@worded
def test_a_word_of_failure_is_presented_and_never_more(
    vendor: str, mtls_client: IssuedCertificate, through: Through
) -> None:
    for word in FAILURES[vendor]:
        source, headers = told(vendor, mtls_client, word)
        outcome = through(source, headers)
        assert outcome.certificate is not None
        assert outcome.certificate.verification is PRESENTED
        for demand in ({"required": True}, {"allow": Subject("CN=client,O=Tests")}):
            refused = through(source, headers, **demand)
            assert (refused.status, refused.error, refused.reached) == (403, "client_certificate_refused", False)
        assert through(source, headers, allow=Thumbprint(mtls_client.thumbprint)).status == 200


@pytest.mark.case("024")
@worded
def test_a_certificate_without_its_word_is_refused(
    vendor: str, mtls_client: IssuedCertificate, through: Through
) -> None:
    """A client's `Connection: X-SSL-Client-Verify` makes some proxies drop the word that they wrote."""
    for words in ((), ("",), ("(null)",)):
        refused = through(*told(vendor, mtls_client, *words))
        assert (refused.status, refused.error, refused.reached) == (400, "invalid_client_certificate", False)


@pytest.mark.case("026")
@worded
def test_certificate_and_word_contradict_each_other(
    vendor: str, mtls_client: IssuedCertificate, through: Through
) -> None:
    for source, headers in (
        told(vendor, mtls_client, "NONE"),
        told(vendor, None, "SUCCESS"),
        told(vendor, None, "FAILED:x"),
        (WORDED[vendor][0], [(CERT, ""), (WORD, "SUCCESS")]),
    ):
        refused = through(source, headers)
        assert (refused.status, refused.error, refused.reached) == (400, "invalid_client_certificate", False)


@pytest.mark.case("028")
@worded
def test_two_words_are_never_one_of_them(vendor: str, mtls_client: IssuedCertificate, through: Through) -> None:
    for words in (("SUCCESS", "FAILED:x"), ("FAILED:x", "SUCCESS"), ("SUCCESS", "SUCCESS"), ("NONE", "SUCCESS")):
        source, headers = told(vendor, mtls_client, *words)
        assert (through(source, headers).status, through(source, headers).reached) == (400, False)
        assert through_wsgi(source, headers, joint=", ").status == 400


@pytest.mark.case("026")
@pytest.mark.parametrize("word", UNKNOWN)
@worded
def test_words_that_the_vendor_does_not_have_are_refused(
    vendor: str, word: str, mtls_client: IssuedCertificate
) -> None:
    assert through_wsgi(*told(vendor, mtls_client, word)).status == 400
    assert through_wsgi(*told(vendor, None, word)).status == 400


@pytest.mark.standard("K7")
@pytest.mark.parametrize(
    ("vendor", "headers"),
    [
        ("nginx", []),
        ("nginx", [(WORD, "NONE")]),
        ("nginx", [(CERT, ""), (WORD, "NONE")]),
        ("apache", [(CERT, "(null)"), (WORD, "NONE")]),
        ("apache", [(CERT, ""), (WORD, "NONE")]),
        ("apache", [(CERT, "(null)"), (WORD, "(null)")]),
        ("haproxy", []),
        ("haproxy", [(CERT, ""), (WORD, "0")]),  # its success is also its none
        ("haproxy", [(WORD, "0")]),
        ("haproxy", [(WORD, "NONE")]),
    ],
)
def test_the_ways_to_say_none(vendor: str, headers: list[tuple[str, str]], through: Through) -> None:
    outcome = through(WORDED[vendor][0], headers)
    assert (outcome.status, outcome.certificate) == (200, None)
    refused = through(WORDED[vendor][0], headers, required=True)
    assert (refused.status, refused.error) == (403, "client_certificate_required")


def test_null_is_apaches_word_alone(through: Through) -> None:
    assert through(Nginx(**TRUST), [(CERT, "(null)"), (WORD, "NONE")]).status == 400


# ---- the certificate's own field


@pytest.mark.case("009", "010")
@worded
def test_two_certificate_fields_are_refused(
    vendor: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate, through: Through
) -> None:
    source, own = told(vendor, mtls_client, "SUCCESS")
    _, other = told(vendor, mtls_other_client)
    for headers in ([*own, *own[:1]], [*own, *other], [*other, *own]):
        assert (through(source, headers).status, through(source, headers).reached) == (400, False)


@pytest.mark.case("011")
@worded
@pytest.mark.parametrize("joint", [",", ", "])
def test_fields_that_a_server_joined_are_refused(
    vendor: str, joint: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    source, own = told(vendor, mtls_client, "SUCCESS")
    _, other = told(vendor, mtls_other_client)
    for headers in ([*own, *other], [*own, (CERT, "")], [(CERT, ""), *own], [*own, *own[:1]]):
        assert through_wsgi(source, headers, joint=joint).status == 400


@pytest.mark.case("001")
@worded
def test_a_strangers_field_is_ignored_and_removed(
    vendor: str, mtls_client: IssuedCertificate, through: Through
) -> None:
    source, headers = told(vendor, mtls_client, "SUCCESS")
    outcome = through(source, headers, peer=STRANGER)
    assert (outcome.status, outcome.certificate, outcome.names) == (200, None, frozenset())
    refused = through(source, headers, peer=STRANGER, required=True)
    assert (refused.status, refused.error, refused.reached) == (403, "client_certificate_required", False)


@pytest.mark.case("003")
@pytest.mark.parametrize("gateway", GATEWAYS.values(), ids=GATEWAYS)
def test_every_known_field_at_once_from_a_stranger_reaches_nobody(
    gateway: Through, mtls_client: IssuedCertificate
) -> None:
    values = (quote(mtls_client.pem), base64_der(mtls_client), mtls_client.as_client_cert()["Client-Cert"], "SUCCESS")
    for name_of in (str, str.upper, lambda name: name.replace("-", "_")):
        headers = [(name_of(name), value) for value in values for name in sorted(KNOWN_HEADERS)]
        outcome = gateway(Nginx(**TRUST), headers, peer=STRANGER)
        assert (outcome.status, outcome.certificate, outcome.names) == (200, None, frozenset())
        assert gateway(Nginx(**TRUST), headers, peer=STRANGER, required=True).status == 403


@pytest.mark.standard("K8")
@pytest.mark.case("058")
def test_only_the_configured_field_is_read(mtls_client: IssuedCertificate, through: Through) -> None:
    """No fallback: every other vendor's field is there, and is removed unread."""
    own = "X-Our-Cert"
    others = [(name, quote(mtls_client.pem)) for name in sorted(KNOWN_HEADERS)]
    source = Nginx(certificate_header=own, verify_header="X-Our-Word", **TRUST)
    outcome = through(source, [*others, ("X-Our-Word", "NONE")])
    assert (outcome.status, outcome.certificate, outcome.names) == (200, None, frozenset())
    found = through(source, [*others, (own, quote(mtls_client.pem)), ("X-Our-Word", "SUCCESS")])
    assert (found.thumbprint, found.names) == (mtls_client.thumbprint, frozenset())


def test_ingress_nginx_has_its_own_names(mtls_client: IssuedCertificate, through: Through) -> None:
    source = Nginx(certificate_header="ssl-client-cert", verify_header="ssl-client-verify", **TRUST)
    headers = [("ssl-client-cert", quote(mtls_client.pem)), ("ssl-client-verify", "SUCCESS")]
    outcome = through(source, headers, required=True)
    assert (outcome.thumbprint, outcome.names) == (mtls_client.thumbprint, frozenset())


@pytest.mark.case("057")
def test_traefiks_list_is_leaf_and_chain(
    mtls_chained: IssuedCertificate, mtls_client: IssuedCertificate, through: Through
) -> None:
    field = "X-Forwarded-Tls-Client-Cert"
    above = mtls_chained.client_certificate().chain
    value = ",".join([base64_der(mtls_chained), *(base64.b64encode(each).decode("ascii") for each in above)])
    outcome = through(Traefik(**TRUST), [(field, value)])
    assert outcome.certificate is not None
    assert (outcome.certificate.der, outcome.certificate.chain) == (mtls_chained.der, above)
    # Two lines: told apart by ASGI, and by a blank where a WSGI server joins them so.
    lines = [(field, base64_der(mtls_client)), (field, value)]
    assert (
        through_asgi(Traefik(**TRUST), lines).status == through_wsgi(Traefik(**TRUST), lines, joint=", ").status == 400
    )
    # Not told apart where the server puts a mere comma between, but a leaf in the chain says so.
    for joined in (lines, lines[::-1], [lines[1], lines[1]]):
        assert through_wsgi(Traefik(**TRUST), joined, joint=",").status == 400
    for bad in ("," + value, value + ",", value.replace(",", ";"), f"{value},{base64_der(mtls_chained)}"):
        assert through(Traefik(**TRUST), [(field, bad)]).status == 400
    assert through(Traefik(**TRUST), [(field, ",".join([base64_der(mtls_client)] + ["AAAA"] * 16))]).status == 400


def test_caddys_value_may_stand_between_colons(mtls_client: IssuedCertificate, through: Through) -> None:
    value = base64_der(mtls_client)
    for written in (value, f":{value}:"):
        assert through(Caddy(**TRUST), [(CERT, written)]).thumbprint == mtls_client.thumbprint
    for broken in (f":{value}", f"{value}:", f"::{value}::", ":", ":::"):
        assert through(Caddy(**TRUST), [(CERT, broken)]).status == 400
    for nothing in ("", "::"):
        assert through(Caddy(**TRUST), [(CERT, nothing)]).certificate is None


def test_haproxys_chain_is_joined_der(mtls_chained: IssuedCertificate, through: Through) -> None:
    source = HAProxy(chain_header="X-SSL-Client-Chain", **TRUST)
    above = mtls_chained.client_certificate().chain
    headers = [(CERT, base64_der(mtls_chained)), (WORD, "0")]
    chain = ("X-SSL-Client-Chain", base64.b64encode(b"".join(above)).decode("ascii"))
    outcome = through(source, [*headers, chain])
    assert outcome.certificate is not None
    assert outcome.certificate.chain == above
    for bad in ("AAAA", base64_der(mtls_chained), "x"):  # no DER, the leaf itself, no base64
        assert through(source, [*headers, ("X-SSL-Client-Chain", bad)]).status == 400


# ---- clouds

AWS = {
    "verify": (AWSLoadBalancer(mode="verify", **TRUST), "X-Amzn-Mtls-Clientcert-Leaf"),
    "passthrough": (AWSLoadBalancer(mode="passthrough", **TRUST), "X-Amzn-Mtls-Clientcert"),
}


def aws(pem: str) -> str:
    """ "URL-encoded PEM format", with `+ = /` as safe characters."""
    return quote(pem, safe="+=/")


@pytest.mark.case("029", "035")
def test_aws_reads_the_field_of_its_mode_alone(mtls_chained: IssuedCertificate, through: Through) -> None:
    leaf = ("X-Amzn-Mtls-Clientcert-Leaf", aws(mtls_chained.pem))
    whole = ("X-Amzn-Mtls-Clientcert", aws(mtls_chained.chain_pem))
    verified = through(AWS["verify"][0], [leaf], required=True).certificate
    assert verified is not None
    assert (verified.der, verified.chain, verified.verification) == (mtls_chained.der, (), BY_PROXY)
    presented = through(AWS["passthrough"][0], [whole]).certificate
    assert presented is not None
    assert (presented.der, presented.verification) == (mtls_chained.der, PRESENTED)
    assert presented.chain == mtls_chained.client_certificate().chain
    # A client can write the other mode's field through the load balancer's.
    assert through(AWS["verify"][0], [whole]).certificate is None
    assert through(AWS["passthrough"][0], [leaf]).certificate is None


@pytest.mark.case("032")
def test_aws_in_verify_mode_sends_one_certificate(mtls_chained: IssuedCertificate, through: Through) -> None:
    assert through(AWS["verify"][0], [("X-Amzn-Mtls-Clientcert-Leaf", aws(mtls_chained.chain_pem))]).status == 400


GOOGLE = GoogleCloudLoadBalancer(**TRUST)


def google(certificate: IssuedCertificate | None, **flags: str) -> list[tuple[str, str]]:
    """The custom headers of Google's documentation; each is sent empty where it has no value."""
    fields = {} if certificate is None else certificate.as_client_cert()
    return [
        ("X-Client-Cert-Present", "false" if certificate is None else "true"),
        ("X-Client-Cert-Chain-Verified", flags.get("verified", "true" if certificate else "false")),
        ("X-Client-Cert-Error", flags.get("error", "")),
        ("X-Client-Cert-Leaf", flags.get("leaf", fields.get("Client-Cert", ""))),
        ("X-Client-Cert-Chain", fields.get("Client-Cert-Chain", "")),
    ]


def test_google_sends_structured_fields_and_a_flag(mtls_chained: IssuedCertificate, through: Through) -> None:
    outcome = through(GOOGLE, google(mtls_chained), required=True)
    assert outcome.certificate is not None
    assert outcome.certificate == mtls_chained.client_certificate()
    assert outcome.certificate.chain == mtls_chained.client_certificate().chain
    assert (outcome.certificate.verification, outcome.names) == (BY_PROXY, frozenset())
    assert through(GOOGLE, google(None)).certificate is None


@pytest.mark.case("061")
def test_google_present_but_not_verified_is_refused(mtls_client: IssuedCertificate, through: Through) -> None:
    headers = google(mtls_client, verified="false", error="client_cert_validation_failed")
    assert through(GOOGLE, headers).thumbprint == mtls_client.thumbprint
    refused = through(GOOGLE, headers, required=True)
    assert (refused.status, refused.error, refused.reached) == (403, "client_certificate_refused", False)


@pytest.mark.parametrize("verified", ["True", "TRUE", "1", "yes", "", "true,true", "SUCCESS"])
def test_googles_flag_is_true_or_false(verified: str, mtls_client: IssuedCertificate, through: Through) -> None:
    assert through(GOOGLE, google(mtls_client, verified=verified)).status == 400


def test_google_without_the_leaf_that_it_verified_is_refused(mtls_client: IssuedCertificate, through: Through) -> None:
    """A leaf that is too large is sent empty, beside the flags of success."""
    assert through(GOOGLE, google(mtls_client, leaf="")).status == 400


AZURE = AzureAppService(**TRUST)


@pytest.mark.case("029", "061")
def test_azure_never_verifies(mtls_client: IssuedCertificate, through: Through) -> None:
    headers = [("X-ARR-ClientCert", base64_der(mtls_client))]
    outcome = through(AZURE, headers)
    assert outcome.certificate is not None
    assert (outcome.thumbprint, outcome.certificate.verification) == (mtls_client.thumbprint, PRESENTED)
    assert through(AZURE, headers, allow=Thumbprint(mtls_client.thumbprint)).status == 200
    assert through(AZURE, [("X-ARR-ClientCert", "")]).certificate is None


CLOUDFLARE = Cloudflare(**TRUST)


def cloudflare(certificate: IssuedCertificate, **flags: str) -> list[tuple[str, str]]:
    """The client certificate headers of the managed transform."""
    return [
        ("Cf-Cert-Presented", "true"),
        ("Cf-Cert-Verified", flags.get("verified", "true")),
        ("Cf-Cert-Revoked", flags.get("revoked", "false")),
        ("Cf-Client-Cert-Der-Base64", base64_der(certificate)),
        ("Cf-Client-Cert-Sha256", flags.get("sha256", hashlib.sha256(certificate.der).hexdigest())),
    ]


def test_cloudflares_fields_must_all_agree(
    mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate, through: Through
) -> None:
    outcome = through(CLOUDFLARE, cloudflare(mtls_client), required=True)
    assert outcome.certificate is not None
    assert (outcome.thumbprint, outcome.certificate.verification) == (mtls_client.thumbprint, BY_PROXY)
    assert outcome.names == frozenset()
    other = hashlib.sha256(mtls_other_client.der).hexdigest()
    for sha256 in (other, "", f"{other},{hashlib.sha256(mtls_client.der).hexdigest()}"):
        assert through(CLOUDFLARE, cloudflare(mtls_client, sha256=sha256)).status == 400
    upper = hashlib.sha256(mtls_client.der).hexdigest().upper()
    assert through(CLOUDFLARE, cloudflare(mtls_client, sha256=upper)).status == 200


@pytest.mark.case("061")
@pytest.mark.parametrize(
    "flags", [{"verified": "false"}, {"revoked": "true"}, {"revoked": "false,true"}, {"revoked": ""}]
)
def test_cloudflare_present_but_invalid_is_refused(
    flags: Mapping[str, str], mtls_client: IssuedCertificate, through: Through
) -> None:
    headers = cloudflare(mtls_client, **flags)
    outcome = through(CLOUDFLARE, headers)
    assert outcome.certificate is not None
    assert outcome.certificate.verification is PRESENTED
    refused = through(CLOUDFLARE, headers, required=True)
    assert (refused.status, refused.error, refused.reached) == (403, "client_certificate_refused", False)


def test_cloudflare_without_a_certificate_says_false(through: Through) -> None:
    headers = [("Cf-Cert-Presented", "false"), ("Cf-Cert-Verified", "false"), ("Cf-Cert-Revoked", "false")]
    assert through(CLOUDFLARE, headers).certificate is None
    assert through(CLOUDFLARE, [*headers[:1], ("Cf-Cert-Verified", "true")]).status == 400


# ---- remembered values


@pytest.mark.case("063")
@pytest.mark.standard("I16")
@worded
def test_a_request_without_certificate_has_none_whatever_came_before(
    vendor: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate, through: Through
) -> None:
    """A keep-alive connection, a resumed session: the source is one and the same object."""
    source, headers = told(vendor, mtls_client, "SUCCESS")
    assert through(source, headers).thumbprint == mtls_client.thumbprint
    assert through(source, [(WORD, "NONE")]).certificate is None
    assert through(source, told(vendor, mtls_other_client, "SUCCESS")[1]).thumbprint == mtls_other_client.thumbprint


@worded
def test_a_remembered_value_never_lends_its_verification(
    vendor: str, mtls_client: IssuedCertificate, through: Through
) -> None:
    found: list[Any] = []
    for word in ("SUCCESS", "FAILED:x", "SUCCESS"):
        certificate = through(*told(vendor, mtls_client, word)).certificate
        assert certificate is not None
        found.append(certificate)
    assert [each.verification for each in found] == [BY_PROXY, PRESENTED, BY_PROXY]
    assert found[0] is found[2]  # the same value is parsed once


@pytest.mark.case("029")
@pytest.mark.parametrize(
    "make", [ClientCertHeader, Caddy, Traefik, Envoy, AzureAppService], ids=lambda each: each.__name__
)
def test_sources_without_a_word_present_unless_told_otherwise(make: type[HeaderSource]) -> None:
    assert not make(**TRUST).can_verify
