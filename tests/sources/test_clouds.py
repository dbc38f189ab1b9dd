"""The fields of load balancers and services in clouds."""

import hashlib
from collections.abc import Mapping
from urllib.parse import quote

import pytest

from mtls_middleware.policy import Thumbprint
from mtls_middleware.sources import AWSLoadBalancer, AzureAppService, Cloudflare, GoogleCloudLoadBalancer
from mtls_middleware.testing import IssuedCertificate
from tests.sources.requests import TRUST
from tests.sources.vendor_fields import BY_PROXY, PRESENTED, Through, base64_der

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
