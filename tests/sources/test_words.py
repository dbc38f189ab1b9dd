"""Each vendor's words, and that a certificate and its word tell the same story."""

from typing import Any

import pytest

from mtls_middleware.policy import Subject, Thumbprint
from mtls_middleware.sources import AzureAppService, Caddy, ClientCertHeader, Envoy, HeaderSource, Nginx, Traefik
from mtls_middleware.testing import IssuedCertificate
from tests.sources.requests import STRANGER, TRUST, through_wsgi
from tests.sources.vendor_fields import BY_PROXY, CERT, PRESENTED, WORD, WORDED, Through, word_fields, worded

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


@worded
def test_the_word_of_success_is_verified(vendor: str, mtls_client: IssuedCertificate, through: Through) -> None:
    for word in SUCCESSES[vendor]:
        outcome = through(*word_fields(vendor, mtls_client, word), required=True)
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
        source, headers = word_fields(vendor, mtls_client, word)
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
        refused = through(*word_fields(vendor, mtls_client, *words))
        assert (refused.status, refused.error, refused.reached) == (400, "invalid_client_certificate", False)


@pytest.mark.case("026")
@worded
def test_certificate_and_word_contradict_each_other(
    vendor: str, mtls_client: IssuedCertificate, through: Through
) -> None:
    for source, headers in (
        word_fields(vendor, mtls_client, "NONE"),
        word_fields(vendor, None, "SUCCESS"),
        word_fields(vendor, None, "FAILED:x"),
        (WORDED[vendor][0], [(CERT, ""), (WORD, "SUCCESS")]),
    ):
        refused = through(source, headers)
        assert (refused.status, refused.error, refused.reached) == (400, "invalid_client_certificate", False)


@pytest.mark.case("028")
@worded
def test_two_words_are_never_one_of_them(vendor: str, mtls_client: IssuedCertificate, through: Through) -> None:
    for words in (("SUCCESS", "FAILED:x"), ("FAILED:x", "SUCCESS"), ("SUCCESS", "SUCCESS"), ("NONE", "SUCCESS")):
        source, headers = word_fields(vendor, mtls_client, *words)
        assert (through(source, headers).status, through(source, headers).reached) == (400, False)
        assert through_wsgi(source, headers, joint=", ").status == 400


@pytest.mark.case("026")
@pytest.mark.parametrize("word", UNKNOWN)
@worded
def test_words_that_the_vendor_does_not_have_are_refused(
    vendor: str, word: str, mtls_client: IssuedCertificate
) -> None:
    assert through_wsgi(*word_fields(vendor, mtls_client, word)).status == 400
    assert through_wsgi(*word_fields(vendor, None, word)).status == 400


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
    source, own = word_fields(vendor, mtls_client, "SUCCESS")
    _, other = word_fields(vendor, mtls_other_client)
    for headers in ([*own, *own[:1]], [*own, *other], [*other, *own]):
        assert (through(source, headers).status, through(source, headers).reached) == (400, False)


@pytest.mark.case("011")
@worded
@pytest.mark.parametrize("joint", [",", ", "])
def test_fields_that_a_server_joined_are_refused(
    vendor: str, joint: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    source, own = word_fields(vendor, mtls_client, "SUCCESS")
    _, other = word_fields(vendor, mtls_other_client)
    for headers in ([*own, *other], [*own, (CERT, "")], [(CERT, ""), *own], [*own, *own[:1]]):
        assert through_wsgi(source, headers, joint=joint).status == 400


@pytest.mark.case("001")
@worded
def test_a_strangers_field_is_ignored_and_removed(
    vendor: str, mtls_client: IssuedCertificate, through: Through
) -> None:
    source, headers = word_fields(vendor, mtls_client, "SUCCESS")
    outcome = through(source, headers, peer=STRANGER)
    assert (outcome.status, outcome.certificate, outcome.names) == (200, None, frozenset())
    refused = through(source, headers, peer=STRANGER, required=True)
    assert (refused.status, refused.error, refused.reached) == (403, "client_certificate_required", False)


# ---- remembered values


@pytest.mark.case("063")
@pytest.mark.standard("I16")
@worded
def test_a_request_without_certificate_has_none_whatever_came_before(
    vendor: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate, through: Through
) -> None:
    """A keep-alive connection, a resumed session: the source is one and the same object."""
    source, headers = word_fields(vendor, mtls_client, "SUCCESS")
    assert through(source, headers).thumbprint == mtls_client.thumbprint
    assert through(source, [(WORD, "NONE")]).certificate is None
    assert (
        through(source, word_fields(vendor, mtls_other_client, "SUCCESS")[1]).thumbprint == mtls_other_client.thumbprint
    )


@worded
def test_a_remembered_value_never_lends_its_verification(
    vendor: str, mtls_client: IssuedCertificate, through: Through
) -> None:
    found: list[Any] = []
    for word in ("SUCCESS", "FAILED:x", "SUCCESS"):
        certificate = through(*word_fields(vendor, mtls_client, word)).certificate
        assert certificate is not None
        found.append(certificate)
    assert [each.verification for each in found] == [BY_PROXY, PRESENTED, BY_PROXY]


@pytest.mark.case("029")
@pytest.mark.parametrize(
    "make", [ClientCertHeader, Caddy, Traefik, Envoy, AzureAppService], ids=lambda each: each.__name__
)
def test_sources_without_a_word_present_unless_told_otherwise(make: type[HeaderSource]) -> None:
    assert not make(**TRUST).can_verify
