"""The CA's chains verify, and its TLS contexts let in whom they should, in real handshakes without a network."""

import ssl
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.verification import PolicyBuilder, Store

from mtls_middleware import ConfigurationError
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, self_signed


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "localhost") -> bytes | None:
    """The client's certificate as the server sees it; raises what either side raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    ends[1].write(b"x")
    assert ends[0].read(1) == b"x"
    return ends[1].getpeercert(True)


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
def test_a_client_of_the_ca_is_let_in(mtls_ca: CertificateAuthority, kind: Any) -> None:
    client = mtls_ca.issue(key=kind)
    assert handshake(mtls_ca.server_context(mtls_ca.server()), mtls_ca.client_context(client)) == client.der


def test_a_client_below_an_intermediate_is_let_in(mtls_ca: CertificateAuthority) -> None:
    client = mtls_ca.intermediate().intermediate("CN=second").issue()
    assert handshake(mtls_ca.server_context(mtls_ca.server()), mtls_ca.client_context(client)) == client.der


def test_an_intermediate_is_an_anchor_of_its_own(mtls_ca: CertificateAuthority) -> None:
    team = mtls_ca.intermediate()
    server = team.server_context(team.server())
    client = team.issue()
    assert handshake(server, team.client_context(client)) == client.der
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):
        handshake(server, team.client_context(mtls_ca.issue()))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_the_server_is_known_by_the_names_of_loopback(
    mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate, host: str
) -> None:
    server = mtls_ca.server_context(mtls_ca.server())
    assert handshake(server, mtls_ca.client_context(mtls_client), host) == mtls_client.der


def test_the_server_is_known_by_its_hosts_alone(mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate) -> None:
    server = mtls_ca.server_context(mtls_ca.server("api.test", "192.0.2.1"))
    for host in ("api.test", "192.0.2.1"):
        assert handshake(server, mtls_ca.client_context(mtls_client), host)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, mtls_ca.client_context(mtls_client), "localhost")


def test_no_certificate_is_let_in_only_where_optional(mtls_ca: CertificateAuthority) -> None:
    server = mtls_ca.server()
    anonymous = mtls_ca.client_context()
    assert handshake(mtls_ca.server_context(server, client_certificates="optional"), anonymous) is None
    with pytest.raises(ssl.SSLError, match="did not return a certificate"):
        handshake(mtls_ca.server_context(server), anonymous)


def test_who_does_not_verify_is_never_let_in(mtls_ca: CertificateAuthority) -> None:
    server = mtls_ca.server_context(mtls_ca.server(), client_certificates="optional")
    bad = [
        CertificateAuthority("CN=Test Client CA,O=Tests").issue(),  # the name of ours, another key
        self_signed(),
        mtls_ca.server(),  # not for clients
        mtls_ca.issue(not_after=datetime(2001, 1, 1, tzinfo=UTC)),
    ]
    for client in bad:
        with pytest.raises(ssl.SSLError, match="certificate verify failed"):
            handshake(server, mtls_ca.client_context(client))


def test_another_mode_is_refused(mtls_ca: CertificateAuthority) -> None:
    with pytest.raises(ConfigurationError, match="client_certificates='none'"):
        mtls_ca.server_context(mtls_ca.server(), client_certificates="none")


def test_contexts_leave_no_file(mtls_ca: CertificateAuthority, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mtls_ca.server_context(mtls_ca.server())
    mtls_ca.client_context(mtls_ca.issue())
    assert list(tmp_path.iterdir()) == []


def test_chain_is_the_intermediates_nearest_first(mtls_ca: CertificateAuthority) -> None:
    first = mtls_ca.intermediate("CN=first")
    second = first.intermediate("CN=second")
    assert mtls_ca.issue().chain == ()
    assert first.issue().chain == (first.certificate,)
    assert second.issue().chain == (second.certificate, first.certificate)


def test_chains_verify_by_the_strict_rules_of_cryptography(mtls_ca: CertificateAuthority) -> None:
    client = mtls_ca.intermediate().issue(dns=["a.test"])
    verifier = PolicyBuilder().store(Store([mtls_ca.certificate])).build_client_verifier()
    verified = verifier.verify(client.x509, list(client.chain))
    assert verified.chain == [client.x509, *client.chain, mtls_ca.certificate]


def test_an_authority_may_be_limited_or_expired(mtls_ca: CertificateAuthority) -> None:
    limit = x509.BasicConstraints(ca=True, path_length=0)
    past = datetime(2001, 1, 1, tzinfo=UTC)
    limited = mtls_ca.intermediate(not_after=past, extensions=[(limit, True)])
    assert limited.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value == limit
    assert limited.certificate.not_valid_after_utc == past


def test_authorities_are_told_apart_by_key_not_by_name() -> None:
    one, other = CertificateAuthority(), CertificateAuthority()
    assert one.certificate.subject == other.certificate.subject
    with pytest.raises(InvalidSignature):
        one.issue().x509.verify_directly_issued_by(other.certificate)
    assert repr(one) == "<CertificateAuthority 'CN=Test Client CA,O=Tests'>"
