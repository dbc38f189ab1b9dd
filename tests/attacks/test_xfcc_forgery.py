"""Envoy's `x-forwarded-client-cert` as Envoy writes it, about certificates whose names try to write more of it.

Envoy escapes the subject (RFC 2253) and copies URI and DNS names as they are.
"""

import hashlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.sources.xfcc import client_certificate
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate

CA = CertificateAuthority()
VICTIM, GATEWAY = CA.issue("CN=victim"), CA.issue("CN=gateway", uris=["spiffe://acme.internal/gateway"])
KEY = CA.issue("CN=shared").key


def pem(certificate: IssuedCertificate) -> str:
    return quote(certificate.pem, safe="+/=")


def digest(certificate: IssuedCertificate) -> str:
    return hashlib.sha256(certificate.der).hexdigest()


def escaped(text: str) -> str:
    """RFC 2253 2.4, as OpenSSL's XN_FLAG_RFC2253 does it."""
    found = "".join(f"\\{char}" if char in ',+"\\<>;' else char for char in text)
    return f"\\{found}" if found[:1] in (" ", "#") else found


# What a forger puts into names: whole pairs about the victim, their parts, and what parts them.
PIECES = [
    f'Cert="{pem(VICTIM)}"', f'Chain="{pem(VICTIM)}"', f"Hash={digest(VICTIM)}", f"hash={digest(VICTIM)};",
    "By=x", "CERT=", "URI=", "DNS=a", 'Subject="', "Subject=", 'X="', "X=", ",", ";", '"', "\\",
    '\\"', "=", " ", "%22", "\t", "a", "urn:x",
]  # fmt: skip
NAME = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
COMMON_NAME = st.text('",;\\=aX ByURI', min_size=1, max_size=40)


def forger(common_name: str, uris: list[str], dns: list[str]) -> IssuedCertificate:
    names = [x509.UniformResourceIdentifier._init_without_validation(each) for each in uris]
    hosts = [x509.DNSName._init_without_validation(each) for each in dns]
    extensions = [(x509.SubjectAlternativeName([*names, *hosts]), False)] if names or hosts else []
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    return CA.issue(subject, key=KEY, extensions=extensions)


OWN = ("spiffe://acme.internal/proxy",)


def element(
    certificate: IssuedCertificate,
    fields: Any,
    common_name: str,
    uris: list[str],
    dns: list[str],
    *,
    own: Sequence[str] = OWN,
) -> str:
    """In the order of Envoy's source: By, Hash, Cert, Chain, Subject, URI, DNS."""
    parts = {
        "By": [f"By={each}" for each in own],
        "Hash": [f"Hash={digest(certificate)}"],
        "Cert": [f'Cert="{pem(certificate)}"'],
        "Chain": [f'Chain="{pem(certificate)}"'],
        "Subject": [f'Subject="CN={escaped(common_name)}"'],
        "URI": [f"URI={each}" for each in uris or [""]],
        "DNS": [f"DNS={each}" for each in dns],
    }
    return ";".join(part for name, values in parts.items() if name in fields for part in values)


def accepted_leaf(value: str, hops: int | None) -> bytes | None:
    try:
        found = client_certificate(value, hops)
    except MalformedCertificate:
        return None
    return found[0] if found else None


FIELDS = st.sets(st.sampled_from(["By", "Hash", "Subject", "URI", "DNS", "Chain"])).map(lambda found: {*found, "Cert"})


@pytest.mark.case("050", "051", "052")
@settings(max_examples=250)
@given(FIELDS, COMMON_NAME, st.lists(NAME, max_size=3), st.lists(NAME, max_size=2))
def test_no_name_that_a_client_chose_names_another_certificate(
    fields: set[str], common_name: str, uris: list[str], dns: list[str]
) -> None:
    own = forger(common_name, uris, dns)
    one = element(own, fields, common_name, uris, dns)
    gateway = element(GATEWAY, fields, "gateway", ["spiffe://acme.internal/gateway"], [])
    for value, hops, meant in (
        (one, None, own), (one, 0, own), (f"{one},{gateway}", 0, GATEWAY), (f"{one},{gateway}", 1, own),
        (f"{gateway},{one}", 0, own), (f"{gateway},{one}", 1, GATEWAY), (f"{gateway},{one},{gateway}", 1, own),
    ):  # fmt: skip
        assert accepted_leaf(value, hops) in (meant.der, None)
    assert accepted_leaf(f"{one},{gateway}", None) is None


OWN_URIS = st.lists(st.text('u:;,=("a ', max_size=12).map("u:{}".format), min_size=1, max_size=3)


@pytest.mark.case("050", "051", "052")
@settings(max_examples=250)
@given(FIELDS, OWN_URIS, COMMON_NAME, st.lists(NAME, max_size=3), st.lists(NAME, max_size=2))
def test_delimiters_in_the_proxys_own_uris_forge_no_certificate(
    fields: set[str], proxy: list[str], common_name: str, uris: list[str], dns: list[str]
) -> None:
    fields |= {"By", "Hash"}
    own = forger(common_name, uris, dns)
    one = element(own, fields, common_name, uris, dns, own=proxy)
    gateway = element(GATEWAY, fields, "gateway", ["spiffe://acme.internal/gateway"], [], own=proxy)
    for value, hops, meant in (
        (one, None, own), (one, 0, own), (f"{one},{gateway}", 0, GATEWAY), (f"{one},{gateway}", 1, own),
        (f"{gateway},{one}", 0, own), (f"{gateway},{one}", 1, GATEWAY),
    ):  # fmt: skip
        assert accepted_leaf(value, hops) in (meant.der, None)
    assert accepted_leaf(f"{one},{gateway}", None) is None
    assert (
        accepted_leaf(gateway, None)
        == accepted_leaf(gateway, 0)
        == accepted_leaf(f"{gateway},{gateway}", 1)
        == GATEWAY.der
    )


NAMED = st.sets(st.sampled_from(["By", "Subject", "URI", "DNS"])).map(lambda found: {*found, "Hash", "URI"})


@pytest.mark.case("050", "051", "052")
@settings(max_examples=250)
@given(NAMED, COMMON_NAME, st.lists(NAME, min_size=1, max_size=3), st.lists(NAME, max_size=2))
def test_names_in_elements_without_a_certificate_forge_none(
    fields: set[str], common_name: str, uris: list[str], dns: list[str]
) -> None:
    """The first Envoy sends no Cert of its client; a gateway behind it appends an element."""
    own = forger(common_name, uris, dns)
    one = element(own, fields, common_name, uris, dns)
    gateway = element(GATEWAY, {"By", "Hash", "Cert", "URI"}, "gateway", ["spiffe://acme.internal/gateway"], [])
    for value, hops in ((one, 0), (f"{one},{gateway}", 0), (f"{one},{gateway}", 1), (f"{one},{one}", 1)):
        assert accepted_leaf(value, hops) in (GATEWAY.der, None)


def test_plain_names_are_read() -> None:
    own = forger("billing", ["urn:x"], ["a.test"])
    one = element(own, {"By", "Hash", "Cert", "Chain", "Subject", "URI", "DNS"}, "billing", ["urn:x"], ["a.test"])
    gateway = element(GATEWAY, {"Cert", "URI"}, "gateway", ["spiffe://acme.internal/gateway"], [])
    assert accepted_leaf(one, None) == own.der
    assert accepted_leaf(f"{one},{gateway}", 1) == own.der
    assert accepted_leaf(f"{one},{gateway}", 0) == GATEWAY.der
