"""Revocation lists: what revokes, what leaves a status unknown, where lists come from, and what they cost."""

import asyncio
import socket
import threading
import time
import tracemalloc

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import RevocationLists, TrustStore
from mtls_middleware.validation import crl as module
from mtls_middleware.validation.crl import StatusRequest
from tests.growth import assert_grows
from tests.key_server import KeyServer
from tests.validation.authority import HOUR, at, crl, long_crl
from tests.validation.unusual_certificates import Authority
from tests.validation.verdicts import presented, reasons

NOW = time.time()
URI = x509.UniformResourceIdentifier


@pytest.fixture(scope="module")
def client(ca):
    return ca.issue("CN=billing")


def scope(**given):
    fields = dict.fromkeys(("full_name", "relative_name", "only_some_reasons"))
    flags = ("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl", "only_contains_attribute_certs")
    return x509.IssuingDistributionPoint(**fields | dict.fromkeys(flags, False) | given), True


def points(*urls, crl_issuer=None, why=None):
    names = [[URI(url)] for url in urls]
    return x509.CRLDistributionPoints([x509.DistributionPoint(each, None, why, crl_issuer) for each in names]), False


@pytest.fixture
def judge(ca, tmp_path):
    def judged(certificate, *lists, now=NOW, roots=(), **options):
        for number, each in enumerate(lists):
            (tmp_path / f"{number}.crl").write_bytes(each)
        return reasons(
            TrustStore([ca.certificate, *roots], revocation=RevocationLists([tmp_path], **options)), certificate, now
        )

    return judged


@pytest.mark.standard("M1")
@pytest.mark.case("081")
def test_who_is_on_the_list_is_refused_and_who_is_not_passes(judge, ca, client):
    other = ca.issue("CN=other")
    assert judge(client, crl(ca, [other], now=NOW)) == ()
    assert "is revoked" in judge(client, crl(ca, [other, client], now=NOW))[1]


@pytest.mark.case("081")
@pytest.mark.standard("M10")
@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_status_that_is_unknown_is_refused_unless_soft_fail_is_chosen(judge, ca, client, soft_fail, caplog):
    impostor = CertificateAuthority()  # the same name, another key
    cases = {
        "expired": crl(ca, now=NOW, begins=-2 * HOUR, ends=-1),
        "covers": crl(ca, now=NOW, begins=60),
    }
    cases |= {"covers serial": crl(impostor, now=NOW)}
    for reason, octets in cases.items():
        found = judge(client, octets, soft_fail=soft_fail)
        assert (found == ()) is soft_fail
        assert soft_fail or reason in found[1]
    assert ("accepted because of soft_fail" in caplog.text) is soft_fail


@pytest.mark.case("081")
def test_soft_fail_rejects_a_certificate_on_an_expired_list(judge, ca, client):
    assert judge(client, crl(ca, [client], now=NOW, begins=-2 * HOUR, ends=-1), soft_fail=True) != ()


@pytest.mark.case("081")
def test_a_list_of_another_issuer_does_not_apply(judge, ca, client):
    other = CertificateAuthority("CN=Other CA")
    assert "covers" in judge(client, crl(other, now=NOW), roots=[other.certificate])[1]
    # Its serial numbers are another's, too.
    assert judge(client, crl(other, [client], now=NOW), crl(ca, now=NOW), roots=[other.certificate]) == ()


def test_the_newest_list_counts(judge, ca, client):
    held, released = crl(ca, [client], now=NOW, begins=-2 * HOUR), crl(ca, now=NOW, begins=-HOUR)
    assert judge(client, held, released) == ()
    assert judge(client, crl(ca, [client], now=NOW, begins=-60), released) != ()


@pytest.mark.case("081")
def test_an_issuer_without_crl_sign_signs_no_list(tmp_path):
    usage = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
    ca = CertificateAuthority(extensions=[(usage, True)])
    (tmp_path / "a.crl").write_bytes(crl(ca, now=NOW))
    store = TrustStore([ca.certificate], revocation=RevocationLists([tmp_path]))
    assert "covers" in reasons(store, ca.issue(), NOW)[1]


@pytest.mark.standard("M1")
def test_each_certificate_of_the_path_needs_a_status(judge, ca):
    below = ca.intermediate()
    client = below.issue()
    of_root, of_below = crl(ca, now=NOW), crl(below, now=NOW)
    assert judge(client, of_root, of_below) == ()
    assert "covers" in judge(client, of_below, of_below)[1]
    assert judge(client, of_below, leaf_only=True) == ()
    revoking = crl(ca, [below.certificate.serial_number], now=NOW)
    assert "is revoked" in judge(client, revoking, of_below)[1]


def test_lists_for_clients_or_for_cas_cover_those_alone(judge, ca):
    below = ca.intermediate()
    client = below.issue()
    for_cas, for_clients = scope(only_contains_ca_certs=True), scope(only_contains_user_certs=True)
    right = crl(ca, now=NOW, extensions=[for_cas]), crl(below, now=NOW, extensions=[for_clients])
    assert judge(client, *right) == ()
    wrong = crl(ca, now=NOW, extensions=[for_clients]), crl(below, now=NOW, extensions=[for_clients])
    assert "covers" in judge(client, *wrong)[1]
    wrong = crl(ca, now=NOW, extensions=[for_cas]), crl(below, now=NOW, extensions=[for_cas])
    assert "covers" in judge(client, *wrong)[1]


def test_a_partitioned_list_covers_certificates_that_name_its_place(judge, ca):
    one, other = "http://crl.internal/1", "http://crl.internal/2"
    octets = crl(ca, now=NOW, extensions=[scope(full_name=[URI(one)])])
    assert judge(ca.issue(extensions=[points(other, one)]), octets) == ()
    assert "covers" in judge(ca.issue(extensions=[points(other)]), octets)[1]
    assert "covers" in judge(ca.issue(), octets)[1]
    elsewhere = [x509.DirectoryName(x509.Name.from_rfc4514_string("CN=Other"))]
    assert "covers" in judge(ca.issue(extensions=[points(one, crl_issuer=elsewhere)]), octets)[1]
    some = frozenset([x509.ReasonFlags.key_compromise])
    assert "covers" in judge(ca.issue(extensions=[points(one, why=some)]), octets)[1]


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\5\0")
OTHER_ISSUER = x509.CertificateIssuer([x509.DirectoryName(x509.Name.from_rfc4514_string("CN=Other"))])


@pytest.mark.case("081")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extensions": [(x509.DeltaCRLIndicator(1), True)]}, "delta"),
        ({"extensions": [scope(indirect_crl=True)]}, "indirect"),
        ({"extensions": [scope(only_some_reasons=frozenset([x509.ReasonFlags.key_compromise]))]}, "some reasons"),
        ({"extensions": [scope(only_contains_attribute_certs=True)]}, "attribute"),
        ({"extensions": [scope(full_name=[x509.RFC822Name("a@b.example")])]}, "expected a URI"),
        ({"extensions": [(UNKNOWN, True)]}, "critical extension"),
        ({"entries": [(UNKNOWN, True)]}, "critical extension"),
        ({"entries": [(OTHER_ISSUER, True)]}, "critical extension"),
        ({"number": None}, "cRLNumber"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_list_of_a_kind_that_is_not_processed_is_a_configuration_error(judge, ca, client, options, message):
    with pytest.raises(ConfigurationError, match=message):
        judge(client, crl(ca, [5], now=NOW, **options))


@pytest.mark.case("075", "081")
def test_a_list_with_an_unsupported_signature_is_a_configuration_error(judge, ca, client):
    with pytest.raises(ConfigurationError, match="signature"):
        judge(client, crl(ca, now=NOW, digest=hashes.SHA224()))


@pytest.mark.parametrize("octets", [b"", b"no list", b"-----BEGIN X509 CRL-----\n", b"\x30\x03\x02\x01\x01"])
def test_an_invalid_list_file_is_a_configuration_error(judge, client, octets):
    with pytest.raises(ConfigurationError, match=r"0\.crl"):
        judge(client, octets)


def test_pem_is_read_one_list_a_file(judge, ca, client):
    pem = x509.load_der_x509_crl(crl(ca, now=NOW)).public_bytes(Encoding.PEM)
    assert judge(client, pem) == ()
    with pytest.raises(ConfigurationError, match="exactly one revocation list"):
        judge(client, pem + pem)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither"),
        ({"files": "ca.crl"}, "a list"),
        ({"files": [5]}, "for example"),
        ({"files": ["/nowhere/ca.crl"]}, "cannot be read"),
        ({"urls": "https://ca.internal/crl"}, "a list"),
        ({"urls": ["http://ca.internal/crl"]}, "https"),
        ({"urls": ["http://ca.internal/crl"], "allow_http": True}, "https"),
        ({"urls": ["ldap://ca.internal/crl"]}, "https"),
        ({"urls": ["file:///etc/passwd"]}, "not a URL|expected"),
    ],
    ids=str,
)
def test_wrong_configuration_is_refused_at_construction(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        RevocationLists(**arguments)


@pytest.mark.case("081")
def test_a_fetched_list_is_used_until_it_expires_during_an_outage(ca, client):
    revoked = ca.issue("CN=revoked")
    with KeyServer(crl(ca, [revoked], now=NOW, ends=2 * HOUR)) as server:
        lists = RevocationLists(urls=[server.url], allow_http=True)
        store = TrustStore([ca.certificate], revocation=lists)
        assert reasons(store, client, NOW) == ()
        assert "is revoked" in reasons(store, revoked, NOW)[1]
        assert server.requests == 1
        assert reasons(store, client, NOW + 479) == ()
        assert server.requests == 1
        server.jwks = b"broken"
        assert reasons(store, client, NOW + 700) == ()  # the new one is of no use, the old one is
        assert server.requests == 2
        server.jwks = crl(ca, [client], now=NOW, begins=-60)
        assert "is revoked" in reasons(store, client, NOW + 1400)[1]
        server.jwks = crl(ca, now=NOW, begins=-90)  # older than what is known
        assert "is revoked" in reasons(store, client, NOW + 2800)[1]
    assert "is revoked" in reasons(store, client, NOW + 3500)[1]  # the server is gone
    with pytest.raises(Unavailable):  # a list that has expired does not say that anybody is good
        BlockingDriver().run(store.validate(presented(revoked), NOW + 2 * HOUR))
    assert "is revoked" in reasons(store, client, NOW + 2 * HOUR)[1]


@pytest.mark.case("081")
def test_an_unfetchable_list_is_503_or_accepted_with_soft_fail(ca, client):
    with KeyServer(b"") as server:
        url = server.url
    hard = TrustStore([ca.certificate], revocation=RevocationLists(urls=[url], allow_http=True))
    with pytest.raises(Unavailable) as caught:
        BlockingDriver().run(hard.validate(presented(client), NOW))
    assert caught.value.retry_after > 0
    soft = TrustStore([ca.certificate], revocation=RevocationLists(urls=[url], allow_http=True, soft_fail=True))
    assert reasons(soft, client, NOW) == ()


def test_the_first_request_waits_for_a_list_that_is_downloaded_slowly(ca, client):
    with KeyServer(crl(ca, now=NOW)) as server:
        server.stall = 3  # longer than a request waits for the first attempt at other documents
        store = TrustStore([ca.certificate], revocation=RevocationLists(urls=[server.url], allow_http=True))
        assert reasons(store, client, NOW) == ()


def test_no_request_waits_for_a_dead_server_while_the_list_is_valid(ca, client):
    with KeyServer(crl(ca, now=NOW, ends=24 * HOUR)) as server:
        store = TrustStore([ca.certificate], revocation=RevocationLists(urls=[server.url], allow_http=True))
        assert reasons(store, client, NOW) == ()
        server.stall = 60
        asker = threading.Thread(target=reasons, args=(store, client, NOW + 5 * HOUR), daemon=True)
        asker.start()
        while server.requests < 2:
            time.sleep(0.01)
        assert reasons(store, client, NOW + 5 * HOUR) == ()
        assert asker.is_alive()
    asker.join(15)


def test_an_expired_list_is_fetched_again_before_rejecting_a_client(ca, client):
    with KeyServer(crl(ca, now=NOW, ends=60)) as server:
        store = TrustStore([ca.certificate], revocation=RevocationLists(urls=[server.url], allow_http=True))
        assert reasons(store, client, NOW) == ()
        server.jwks = crl(ca, now=NOW, begins=-30, ends=HOUR)
        assert reasons(store, client, NOW + 61) == ()
        assert server.requests == 2


@pytest.mark.case("082")
def test_addresses_in_a_certificate_open_no_connection(ca, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        urls = [f"http://127.0.0.1:{port}/", "http://169.254.169.254/", "file:///etc/passwd", "ldap://127.0.0.1/"]
        access = [
            x509.AccessDescription(method, URI(url))
            for method in (AuthorityInformationAccessOID.OCSP, AuthorityInformationAccessOID.CA_ISSUERS)
            for url in urls
        ]
        below = ca.intermediate(extensions=[points(*urls), (x509.AuthorityInformationAccess(access), False)])
        client = below.issue(
            extensions=[
                points(*urls),
                (x509.AuthorityInformationAccess(access), False),
                (x509.FreshestCRL([*points(*urls)[0]]), False),
            ]
        )
        (tmp_path / "a.crl").write_bytes(crl(ca, now=NOW))
        (tmp_path / "b.crl").write_bytes(
            crl(below, now=NOW, extensions=[(x509.FreshestCRL([*points(*urls)[0]]), False)])
        )
        opened = []
        monkeypatch.setattr(socket.socket, "connect", lambda *arguments: opened.append(arguments))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: opened.append(arguments))
        for lists in (None, RevocationLists([tmp_path]), RevocationLists([tmp_path], soft_fail=True)):
            assert reasons(TrustStore([ca.certificate], revocation=lists), client, NOW) == ()
            without_chain = ca.issue(extensions=[points(*urls)])
            assert reasons(TrustStore([below.certificate], revocation=lists), without_chain, NOW) != ()
        assert not opened
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_look_up_costs_the_same_for_ten_and_for_a_hundred_thousand(ca, client):
    def prepare(count):
        found = module.parse(long_crl(ca, range(1, count + 1), now=NOW))
        assert found.is_signed_by_issuer(StatusRequest(ca.certificate, ca.certificate))
        serial = client.x509.serial_number
        return lambda: [serial in found.serials for _ in range(1_000)]

    assert_grows(prepare, 10, 100_000, at_most=20)


def test_a_list_keeps_its_serial_numbers_and_little_else(ca):
    octets = long_crl(ca, [x509.random_serial_number() for _ in range(50_000)], now=NOW)
    tracemalloc.start()
    found = module.parse(octets)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(found.serials) == 50_000
    assert held / 50_000 < 20 + 12  # a number has 20 bytes


def test_the_signature_is_checked_once_per_issuer(ca, client, monkeypatch):
    found = module.parse(crl(ca, now=NOW))
    checks = []
    check = module.RevocationList.is_signed_by
    monkeypatch.setattr(module.RevocationList, "is_signed_by", lambda *arguments: checks.append(1) or check(*arguments))
    assert all(found.is_signed_by_issuer(StatusRequest(ca.certificate, ca.certificate)) for _ in range(5))
    assert checks == [1]
    assert not found.is_signed_by_issuer(StatusRequest(ca.certificate, CertificateAuthority().certificate))


@pytest.mark.parametrize("scheme", [None, padding.PSS(padding.MGF1(hashes.SHA384()), 48)], ids=["PKCS 1", "PSS"])
def test_lists_signed_by_rsa_are_read(scheme):
    own = rsa.generate_private_key(65537, 2048)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name.from_rfc4514_string("CN=Own CA"))
        .last_update(at(NOW))
        .next_update(at(NOW + HOUR))
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    signed = builder.sign(own, hashes.SHA384(), rsa_padding=scheme)
    found = module.parse(signed.public_bytes(Encoding.DER))
    issuer = Authority(own).certificate
    other = Authority(rsa.generate_private_key(65537, 2048)).certificate
    assert found.is_signed_by_issuer(StatusRequest(issuer, issuer))
    assert not found.is_signed_by_issuer(StatusRequest(issuer, other))


def test_lists_from_an_address_are_awaited_under_asgi(ca, client):
    revoked = ca.issue("CN=revoked")
    with KeyServer(crl(ca, [revoked], now=NOW)) as server:
        store = TrustStore([ca.certificate], revocation=RevocationLists(urls=[server.url], allow_http=True))

        async def ask():
            driver = AwaitingDriver()
            assert await driver.run(store.validate(presented(client), NOW)) == presented(client)
            with pytest.raises(Refused, match="is revoked"):
                await driver.run(store.validate(presented(revoked), NOW))

        asyncio.run(ask())
        assert server.requests == 1
