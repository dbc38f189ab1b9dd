"""Certificates that OpenSSL reads and `cryptography` does not, wholly or in part.

Binding and `Thumbprint` need only the octets, so they work from every source. Everything else is rejected, with the
parser's own reason in the log.

Reports: pyca/cryptography#12665, pyca/cryptography#13067, pyca/cryptography#13461, pyca/cryptography#10685,
pyca/cryptography#9002, pyca/cryptography#6804, pyca/cryptography#3200, pyca/cryptography#7425.
"""

import base64
import json
import logging
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware import binding
from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.cli.main import main
from mtls_middleware.der import read_value
from mtls_middleware.errors import ConfigurationError, MalformedCertificate, Refused
from mtls_middleware.openssl_reader import is_certificate
from mtls_middleware.policy import DNSName, Issuer, Presented, Subject, Thumbprint
from mtls_middleware.sources import AWSLoadBalancer, Caddy, ClientCertHeader, Envoy, HAProxy, Nginx, ServerTLS, Traefik
from mtls_middleware.validation import TrustStore
from tests.gateways import Outcome
from tests.sources.requests import TRUST, through_asgi, through_wsgi
from tests.unreadable import (
    CA,
    CLIENT,
    CRITICAL_FALSE,
    DER,
    NAME_RULE,
    PARTS,
    UNREADABLE,
    names,
    signed_again,
    spoilt,
    until,
    value,
)
from tests.validation.verdicts import reasons


class Socket:
    """The part of an `ssl.SSLSocket` that a server passes."""

    family = None

    def __init__(self, der: bytes) -> None:
        self._der = der

    def getpeercert(self, _: bool) -> bytes:
        return self._der

    def get_unverified_chain(self) -> list[bytes]:
        return [self._der]


def base64_of(der: bytes) -> str:
    return base64.b64encode(der).decode()


def headers(source: Any, *pairs: tuple[str, Callable[[bytes], str]]) -> Callable[..., Outcome]:
    def send(der: bytes, **layer: Any) -> Outcome:
        return through_wsgi(source, [(name, write(der)) for name, write in pairs], **layer)

    return send


def tls_extension(der: bytes, **layer: Any) -> Outcome:
    tls = {"server_cert": None, "client_cert_chain": [ssl.DER_cert_to_PEM_cert(der)], "client_cert_error": None}
    return through_asgi(ServerTLS(), scope={"extensions": {"tls": tls}}, **layer)


def escaped(der: bytes) -> str:
    return quote(ssl.DER_cert_to_PEM_cert(der), safe="")


SOURCES: Mapping[str, Callable[..., Outcome]] = {
    "nginx": headers(Nginx(**TRUST), ("X-SSL-Client-Cert", escaped), ("X-SSL-Client-Verify", lambda _: "SUCCESS")),
    "RFC 9440": headers(
        ClientCertHeader(verified_by_proxy=True, **TRUST), ("Client-Cert", lambda der: f":{base64_of(der)}:")
    ),
    "HAProxy": headers(HAProxy(**TRUST), ("X-SSL-Client-Cert", base64_of), ("X-SSL-Client-Verify", lambda _: "0")),
    "AWS": headers(
        AWSLoadBalancer(mode="verify", **TRUST),
        ("X-Amzn-Mtls-Clientcert-Leaf", lambda der: quote(ssl.DER_cert_to_PEM_cert(der), safe="+=/")),
    ),
    "Traefik": headers(Traefik(verified_by_proxy=True, **TRUST), ("X-Forwarded-Tls-Client-Cert", base64_of)),
    "Caddy": headers(Caddy(verified_by_proxy=True, **TRUST), ("X-SSL-Client-Cert", base64_of)),
    "Envoy": headers(
        Envoy(verified_by_proxy=True, **TRUST), ("X-Forwarded-Client-Cert", lambda der: f'Cert="{escaped(der)}"')
    ),
    "Envoy with names": headers(
        Envoy(verified_by_proxy=True, **TRUST),
        (
            "X-Forwarded-Client-Cert",
            lambda der: f'By=spiffe://a/b;Cert="{escaped(der)}";URI=urn:a;DNS=billing.internal',
        ),
    ),
    "socket": lambda der, **layer: through_wsgi(ServerTLS(), environ={"gunicorn.socket": Socket(der)}, **layer),
    "mod_ssl": lambda der, **layer: through_wsgi(
        ServerTLS(), environ={"SSL_CLIENT_CERT": ssl.DER_cert_to_PEM_cert(der), "SSL_CLIENT_VERIFY": "SUCCESS"}, **layer
    ),
    "TLS extension": tls_extension,
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_openssl_reads_each_of_these_certificates(kind, tmp_path):
    der, _ = UNREADABLE[kind]
    (tmp_path / "c.der").write_bytes(der)
    command = ["openssl", "x509", "-inform", "DER", "-in", tmp_path / "c.der", "-noout", "-fingerprint"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert is_certificate(der)


@pytest.mark.parametrize("kind", UNREADABLE)
def test_binding_and_octets_work_without_the_parser(kind):
    der, reason = UNREADABLE[kind]
    found = ClientCertificate.from_der(der, verification=Verification.BY_PROXY)
    assert reason.lower() in found.unreadable.lower()
    assert found.verification is Verification.PRESENTED  # its validity period cannot be checked
    assert binding.confirm({"cnf": {"x5t#S256": found.thumbprint}}, found, "required") is not None
    assert ssl.PEM_cert_to_DER_cert(found.pem) == der
    assert found == ClientCertificate.from_der(der)
    for name in ("subject", "issuer", "dns_names", "serial_number", "not_valid_after", "x509", "policies"):
        with pytest.raises(MalformedCertificate, match="cannot be read"):
            getattr(found, name)
    with pytest.raises(MalformedCertificate):
        found.with_verification(Verification.BY_TRUST_STORE)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", UNREADABLE)
def test_only_a_thumbprint_allows_the_certificate_from_any_source(kind, source, caplog):
    der, reason = UNREADABLE[kind]
    send = SOURCES[source]
    thumbprint = Thumbprint(ClientCertificate.from_der(der).thumbprint)
    accepted = send(der, allow=thumbprint)
    assert accepted.status == 200
    assert accepted.seen is not None
    for rule in (
        DNSName("billing.internal"),
        Subject("CN=billing,O=AcmeX"),
        ~Issuer("CN=x"),
        Presented(DNSName("billing.internal")),
    ):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert send(der, allow=rule).status == 403
        assert reason.lower() in caplog.text.lower()
        assert "validation.md" in caplog.text or "decision refused" in caplog.text
    assert send(der, allow=thumbprint | DNSName("billing.internal")).status == 200


@pytest.mark.parametrize("source", SOURCES)
def test_a_required_certificate_must_be_readable(source, caplog):
    der, reason = UNREADABLE["critical FALSE"]
    with caplog.at_level(logging.INFO):
        assert SOURCES[source](der, required=True).status == 403
        assert SOURCES[source](der, trust_store=TrustStore([CA.certificate])).status == 403
    assert caplog.text.count(reason) >= 2


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_trust_store_rejects_it_with_the_parsers_reason(kind):
    der, reason = UNREADABLE[kind]
    found = reasons(TrustStore([CA.certificate]), ClientCertificate.from_der(der), 1.8e9)
    assert any(reason.lower() in each.lower() for each in found)


JUNK = {
    "empty": b"",
    "text": b"junk",
    "another sequence": b"\x30\x03\x02\x01\x01",
    "cut off": DER[:-1],
    "an octet behind it": DER + b"\0",
    "two certificates": DER + DER,
    "unreadable with an octet behind it": CRITICAL_FALSE + b"\0",
    "unreadable and cut off": CRITICAL_FALSE[:-1],
    "no subject": spoilt(CLIENT.x509.subject.public_bytes(), b""),
    "indefinite length": b"\x30\x80" + read_value(DER)[1] + b"\0\0",
}


@pytest.mark.parametrize("kind", JUNK)
def test_what_openssl_rejects_is_no_certificate(kind):
    assert not is_certificate(JUNK[kind])
    with pytest.raises(MalformedCertificate, match="expected exactly one certificate"):
        ClientCertificate.from_der(JUNK[kind])
    if JUNK[kind]:
        assert SOURCES["nginx"](JUNK[kind], allow=Thumbprint(CLIENT.thumbprint)).status == 400


@pytest.mark.parametrize("source", ["nginx", "socket", "Envoy with names"])
@pytest.mark.parametrize("kind", PARTS)
def test_an_unreadable_part_leaves_the_rest_and_is_named_in_the_log(kind, source, caplog):
    part, send = PARTS[kind], SOURCES[source]
    assert send(part.der, allow=part.works).status == 200
    assert send(part.der, allow=Thumbprint(ClientCertificate.from_der(part.der).thumbprint)).status == 200
    with caplog.at_level(logging.INFO):
        assert send(part.der, allow=part.fails).status == 403
        assert send(part.der, allow=~part.fails).status == 403
    assert caplog.text.count(part.reason) >= 2, caplog.text


# `TrustStore` accepts these certificates. Rules over subjectAltName still allow no request.
ACCEPTED_BY_STORES = {"URI in UTF-8", "iPAddress of a network"}


@pytest.mark.parametrize("kind", PARTS)
def test_a_trust_store_says_which_part_it_cannot_read(kind):
    part = PARTS[kind]
    found = reasons(TrustStore([CA.certificate]), ClientCertificate.from_der(signed_again(part.der)), time.time())
    assert (found == ()) is (kind in ACCEPTED_BY_STORES)
    assert found == () or any(part.reason in each or "an invalid dNSName" in each for each in found), found


@pytest.mark.parametrize("der", [CRITICAL_FALSE, PARTS["ediPartyName"].der], ids=["whole", "names"])
def test_names_that_cannot_be_read_cannot_forge_an_element(der):
    """A name with a delimiter is not recognised, so the field is rejected, or the leaf is that of `Cert`."""
    rule = Thumbprint(ClientCertificate.from_der(der).thumbprint)
    own, other = f'Cert="{escaped(der)}"', f'Cert="{escaped(DER)}"'
    for text in (f"{own};URI=a,{other}", f"{own};URI=a;{other}", f"{other};URI=a,{own}"):
        source = Envoy(verified_by_proxy=True, **TRUST)
        assert through_wsgi(source, [("X-Forwarded-Client-Cert", text)], allow=rule | NAME_RULE).status == 400
    hops = Envoy(hops=0, verified_by_proxy=True, **TRUST)
    field = [("X-Forwarded-Client-Cert", f"{own};URI=urn:a")]
    assert through_wsgi(hops, field, allow=rule).status == 400


def test_both_encodings_of_a_time_are_read():
    """RFC 5280 4.1.2.5: applications process both. Only the path building of `cryptography` does not."""
    der = until(b"20491231235959Z", 24)
    assert ClientCertificate.from_der(der).not_valid_after.isoformat() == "2049-12-31T23:59:59+00:00"
    assert SOURCES["nginx"](der, allow=NAME_RULE).status == 200
    assert any(
        "UtcTime" in each for each in reasons(TrustStore([CA.certificate]), ClientCertificate.from_der(der), 1.8e9)
    )


def test_a_root_with_such_a_time_can_never_validate():
    root = CA.certificate.public_bytes(Encoding.DER)
    ends = CA.certificate.not_valid_after_utc.strftime("%y%m%d%H%M%SZ").encode()
    changed = signed_again(spoilt(value(23, ends), value(24, b"20491231235959Z"), root))
    with pytest.raises(ConfigurationError, match=r"roots\[0\] can never validate a client .*UtcTime"):
        TrustStore([x509.load_der_x509_certificate(changed)])


@pytest.mark.parametrize(
    ("source", "name", "joint"),
    [
        (Traefik(verified_by_proxy=True, **TRUST), "X-Forwarded-Tls-Client-Cert", ","),
        (Envoy(verified_by_proxy=True, **TRUST), "X-Forwarded-Client-Cert", ""),
    ],
    ids=["Traefik", "Envoy"],
)
def test_an_unreadable_entry_of_the_chain_is_dropped(source, name, joint):
    """RFC 8446 4.4.2: a client may send certificates that the server does not need."""
    chain = [DER, CRITICAL_FALSE]
    text = joint.join(map(base64_of, chain)) if joint else f'Chain="{"".join(map(escaped, chain))}"'
    accepted = through_wsgi(source, [(name, text)], allow=NAME_RULE)
    assert accepted.status == 200
    assert accepted.seen is not None
    assert accepted.seen.certificate.chain == ()


@pytest.mark.parametrize("kind", UNREADABLE)
def test_inspect_and_verify_have_the_parsers_reason(kind, tmp_path: Path, capsys):
    der, reason = UNREADABLE[kind]
    for name, content in (
        ("c.pem", ssl.DER_cert_to_PEM_cert(der).encode()),
        ("c.der", der),
        ("bag.pem", b"Bag Attributes\r\n    friendlyName: x\r\n" + ssl.DER_cert_to_PEM_cert(der).encode()),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        assert main(["inspect", str(path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert reason.lower() in found["subject"].lower()
        assert found["rules"] == [f"Thumbprint('{ClientCertificate.from_der(der).thumbprint}')"]
        (tmp_path / "root.pem").write_text(CA.pem)
        assert main(["verify", str(path), "--roots", str(tmp_path / "root.pem"), "--json"]) == 1
        verified = json.loads(capsys.readouterr().out)
        assert verified["first_failure"]["position"] == 0
        assert reason.lower() in verified["first_failure"]["reason"].lower()
        assert [each["thumbprint"] for each in verified["path"]] == [ClientCertificate.from_der(der).thumbprint]


def test_a_real_handshake_gives_such_a_certificate_to_the_application(tmp_path):
    """OpenSSL verifies it, so a server with `CERT_REQUIRED` accepts the connection."""
    der = signed_again(CRITICAL_FALSE)
    (tmp_path / "c.pem").write_text(ssl.DER_cert_to_PEM_cert(der) + CLIENT.key_pem)
    context = CA.client_context()
    context.load_cert_chain(tmp_path / "c.pem")
    theirs, ours = socket.socketpair()
    with ThreadPoolExecutor(1) as pool, theirs, ours:
        connecting = pool.submit(context.wrap_socket, theirs, server_hostname="localhost")
        with CA.server_context(CA.server()).wrap_socket(ours, server_side=True) as tls:
            connecting.result(30).write(b"x")
            assert tls.recv(1) == b"x"
            environ = {"gunicorn.socket": tls}
            rule = Thumbprint(ClientCertificate.from_der(der).thumbprint)
            assert through_wsgi(ServerTLS(), environ=environ, allow=rule).status == 200
            assert through_wsgi(ServerTLS(), environ=environ, allow=NAME_RULE).status == 403
            connecting.result().close()


def test_the_reason_has_no_octets_that_the_client_chose():
    der = names(value(0x87, b"secret name"))
    with pytest.raises(MalformedCertificate) as error:
        _ = ClientCertificate.from_der(der).dns_names
    assert "secret" not in str(error.value.evidence)
    assert "(octets) does not appear to be an IPv4 or IPv6 address" in error.value.evidence[0]


def test_a_refusal_of_an_unreadable_certificate_is_no_error_of_the_server():
    found = ClientCertificate.from_der(CRITICAL_FALSE)
    with pytest.raises(Refused):
        binding.confirm({"cnf": {"x5t#S256": CLIENT.thumbprint}}, found, "required")
    assert "unreadable" in repr(found)
