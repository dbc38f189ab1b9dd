"""Certificates that `cryptography` merely warns of, in applications where warnings are errors, as in this test run."""

import base64
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509

from mtls_middleware import ClientCertificate, Verification
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.policy import DNSName, Issuer, Subject, Thumbprint
from mtls_middleware.sources import Caddy
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import SpiffeTrust, TrustStore
from tests.gateways import Request, both_gateways, send


def country_of_four_letters() -> bytes:
    """Subject and issuer C=Acme: OU=Acme, with the last octet of the attribute's identifier changed."""
    good = CertificateAuthority("OU=Acme").issue("OU=Acme").der
    assert good.count(b"\x55\x04\x0b") == 2
    return good.replace(b"\x55\x04\x0b", b"\x55\x04\x06")


def negative_serial() -> bytes:
    """A certificate whose serial number has the sign bit set; its signature does not matter here."""
    good = CertificateAuthority().issue("CN=odd")
    number = good.x509.serial_number
    octets = number.to_bytes(number.bit_length() // 8 + 1, "big")
    assert good.der.count(octets) == 1
    return good.der.replace(octets, bytes([octets[0] | 0x80]) + octets[1:])


def wrap_with(**layer: Any) -> Any:
    source = Caddy(trusted_proxies=["10.0.0.0/8"], verified_by_proxy=True)
    return lambda module, app: module.ClientCertificateMiddleware(app, source, **layer)


def presenting(der: bytes) -> Request:
    return Request(headers=[("X-SSL-Client-Cert", base64.b64encode(der).decode("ascii"))])


@both_gateways
def test_a_negative_serial_number_is_rejected_with_400(gateway: str) -> None:
    assert send(gateway, wrap_with(), presenting(negative_serial())).status == 400


@pytest.mark.parametrize("rule", [Subject("CN=a"), ~Subject("CN=a"), Issuer("CN=a"), ~Issuer("CN=a")], ids=repr)
@both_gateways
def test_a_name_that_causes_a_parser_warning_matches_no_rule(gateway: str, rule: Any) -> None:
    der = country_of_four_letters()
    assert send(gateway, wrap_with(allow=rule), presenting(der)).status == 403
    for either in (rule | ~DNSName("a.test"), ~DNSName("a.test") | rule):  # the other rule decides alone
        assert send(gateway, wrap_with(allow=either), presenting(der)).status == 200
    leaf = ClientCertificate.from_der(der)
    assert send(gateway, wrap_with(allow=Thumbprint(leaf.thumbprint)), presenting(der)).status == 200


def test_repr_does_not_raise() -> None:
    certificate = ClientCertificate.from_der(country_of_four_letters())
    assert repr(certificate) == f"<ClientCertificate '(unreadable)' {certificate.thumbprint} PRESENTED>"
    with pytest.raises(MalformedCertificate):
        _ = certificate.subject


@pytest.mark.filterwarnings("ignore")
def test_without_that_the_name_is_what_it_says() -> None:
    certificate = ClientCertificate.from_der(country_of_four_letters(), verification=Verification.BY_PROXY)
    assert certificate.subject == "C=Acme"
    assert Subject("C=Acme").holds(certificate)


def name_of_many_lengths() -> x509.Name:
    """Each attribute causes a warning of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        common = x509.NameOID.COMMON_NAME
        return x509.Name([x509.NameAttribute(common, "a" * size, _validate=False) for size in range(65, 85)])


AUTHORITY = CertificateAuthority()
STORES: dict[str, Callable[[x509.Certificate], Any]] = {
    "trust store": lambda root: TrustStore([root]),
    "SPIFFE": lambda root: SpiffeTrust({"acme.internal": [root]}),
}


@pytest.mark.parametrize("store", STORES)
@both_gateways
def test_a_trust_store_refuses_a_certificate_that_is_warned_of(gateway: str, store: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        der = AUTHORITY.issue(name_of_many_lengths(), uris=["spiffe://acme.internal/a"]).der
    wrap = wrap_with(trust_store=STORES[store](AUTHORITY.certificate))
    assert send(gateway, wrap, presenting(der)).status == 403
    for odd in (country_of_four_letters(), negative_serial()):
        assert send(gateway, wrap, presenting(odd)).status in (400, 403)


READS_ALL = """
import sys, time
from mtls_middleware import ClientCertificate, Verification
from mtls_middleware.errors import Refused
from mtls_middleware.policy import DNSName, Issuer, Subject
from mtls_middleware.validation import TrustStore
root, der = (bytes.fromhex(each) for each in sys.argv[1:])
found = ClientCertificate.from_der(der, chain=(der,), verification=Verification.BY_SERVER)
(Subject("CN=a") | Issuer("CN=a") | DNSName("a.test")).holds(found)
repr(found)
try:
    TrustStore([ClientCertificate.from_der(root).x509]).validate(found, time.time())
except Refused:
    pass
"""


@pytest.mark.parametrize("where", ["subject", "alternative names", "name constraints"])
def test_no_log_line_depends_on_the_names_of_a_certificate(where: str) -> None:
    """A warning is a line in the log of most servers."""
    odd = name_of_many_lengths()
    directory = [x509.DirectoryName(odd)]
    extensions: dict[str, list[tuple[x509.ExtensionType, bool]]] = {
        "alternative names": [(x509.SubjectAlternativeName(directory), False)],
        "name constraints": [(x509.NameConstraints(directory, None), False)],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        der = AUTHORITY.issue(odd if where == "subject" else "CN=a", extensions=extensions.get(where, [])).der
    root = ClientCertificate.from_pem(AUTHORITY.pem).der
    command = [sys.executable, "-c", READS_ALL, root.hex(), der.hex()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stderr == ""
