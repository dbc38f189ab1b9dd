"""OCSP: which responses are accepted, what is cached, and what several revocation sources decide together."""

import itertools
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware import dependencies
from mtls_middleware.effects.exchange import Stopwatch
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.reusable import decide
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import OCSP, CertificateStatus, RevocationLists, TrustStore
from tests.key_server import until
from tests.live.servers import free_port
from tests.validation.authority import HOUR, crl
from tests.validation.responder import GOOD, REVOKED, SHA1, UNKNOWN, Responder, failure, respond
from tests.validation.verdicts import presented, reasons

NOW = time.time()
NO_CHECK = (x509.OCSPNoCheck(), False)


@pytest.fixture(autouse=True)
def new_time(monkeypatch):
    # The responder states the true time of its responses, so a time of the import would soon be too old.
    monkeypatch.setattr(sys.modules[__name__], "NOW", time.time())


@pytest.fixture(scope="module")
def client(ca):
    return ca.issue("CN=billing")


@pytest.fixture
def server(ca):
    with Responder(ca, now=NOW) as running:
        yield running


def store_of(ca, *sources):
    return TrustStore([ca.certificate], revocation=list(sources))


def outcome(store, certificate, now=None):
    """ "good", "refused" or "unavailable"."""
    code = (*reasons(store, certificate, NOW if now is None else now), "")[0]
    return {"": "good", "client_certificate_refused": "refused", "temporarily_unavailable": "unavailable"}[code]


def delegate(ca, *extensions, purpose=ExtendedKeyUsageOID.OCSP_SIGNING, **options):
    extensions = [*extensions, (x509.ExtendedKeyUsage([purpose]), False)]
    return ca.issue("CN=OCSP responder", extended_key_usage=(), extensions=extensions, **options)


def signed_by(responder):
    return {"key": responder.key, "named": responder.x509, "certificates": [responder.x509]}


@pytest.mark.parametrize(("method", "nonce"), [("POST", "optional"), ("GET", "none")])
@pytest.mark.parametrize("status", [GOOD, REVOKED, UNKNOWN])
def test_the_status_in_the_response_decides(ca, client, server, method, nonce, status):  # noqa: PLR0917 (fixtures)
    server.options["status"] = status
    expected = "good" if status is GOOD else "refused"
    assert outcome(store_of(ca, OCSP(server.url, method=method, nonce=nonce)), client) == expected
    assert [each for each, _ in server.asked] == [method]


def test_the_reason_for_the_log_names_the_status(ca, client, server):
    store = store_of(ca, OCSP(server.url))
    server.options["status"] = REVOKED
    assert "is revoked" in reasons(store, client, NOW)[1]
    server.options["status"] = UNKNOWN
    assert "does not know serial" in reasons(store_of(ca, OCSP(server.url)), client, NOW)[1]


def _unusable(ca):
    impostor = CertificateAuthority()
    other = CertificateAuthority("CN=Other CA,O=Tests")
    day = timedelta(days=1)
    expired = delegate(ca, NO_CHECK, not_before=datetime.now(UTC) - 3 * day, not_after=datetime.now(UTC) - day)
    return {
        "expired": ({"begins": -2 * HOUR, "ends": -120}, "expired"),
        "nextUpdate before thisUpdate": ({"begins": 20, "ends": 10}, "nextUpdate is before thisUpdate"),
        "thisUpdate in the future": ({"begins": 200}, "thisUpdate is"),
        "a signature that was changed": ({"tamper": True}, "signer"),
        "an unknown signer": ({"key": impostor.key, "named": impostor.certificate}, "signer"),
        "another CA of the same name": (
            {"key": impostor.key, "named": impostor.certificate, "certificates": [impostor.certificate]},
            "issuer of the responder",
        ),
        "delegate of another CA": (signed_by(delegate(other, NO_CHECK)), "issuer of the responder"),
        "delegate without the purpose": (
            signed_by(delegate(ca, NO_CHECK, purpose=ExtendedKeyUsageOID.CLIENT_AUTH)),
            "OCSPSigning",
        ),
        "delegate with any purpose": (
            signed_by(delegate(ca, NO_CHECK, purpose=ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)),
            "OCSPSigning",
        ),
        "delegate without nocheck": (signed_by(delegate(ca)), "nocheck"),
        "expired delegate": (signed_by(expired), "validity period"),
        "another serial number": ({"serial": 7}, "0 statuses"),
        "another issuer": ({"issuer": other.certificate}, "0 statuses"),
        "the nonce of another request": ({"nonce": b"x" * 32}, "nonce"),
        "weak digest": ({"digest": hashes.SHA224()}, "unsupported signature"),
        "no nextUpdate, old": ({"ends": None, "begins": -2 * HOUR, "nonce": None}, "max_age"),
    }


@pytest.mark.parametrize("name", sorted(_unusable(CertificateAuthority())))
def test_a_response_that_proves_nothing_is_503_and_logged(ca, client, server, name, caplog):
    server.options |= _unusable(ca)[name][0]
    events = []
    stop = dependencies.observe(lambda event, reason: events.append((event, reason)))
    assert outcome(store_of(ca, OCSP(server.url)), client) == "unavailable"
    stop()
    assert _unusable(ca)[name][1] in caplog.text
    assert [event for event, _ in events] == ["ocsp_failed"]
    assert f"{client.x509.serial_number:x}" not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"<html></html>",
        b"0" * 70_000,
        *(failure(each) for each in ("TRY_LATER", "INTERNAL_ERROR", "UNAUTHORIZED", "MALFORMED_REQUEST")),
    ],
    ids=lambda body: repr(body[:8]),
)
def test_a_response_that_is_none_is_503(ca, client, server, body):
    server.body = body
    assert outcome(store_of(ca, OCSP(server.url)), client) == "unavailable"


def test_an_http_error_is_503(ca, client, server):
    server.http_status = 500
    assert outcome(store_of(ca, OCSP(server.url)), client) == "unavailable"


def test_a_slow_responder_is_503_after_the_timeout(ca, client, server):
    server.stall = 60
    assert outcome(store_of(ca, OCSP(server.url, timeout=0.2)), client) == "unavailable"


def test_a_replayed_response_is_rejected_by_its_nonce(ca, client, server):
    assert outcome(store_of(ca, OCSP(server.url)), client) == "good"
    server.body = respond(ca, ocsp.load_der_ocsp_request(server.asked[0][1]), now=NOW)
    assert outcome(store_of(ca, OCSP(server.url)), client) == "unavailable"
    server.body = None
    server.options["nonce"] = None
    assert outcome(store_of(ca, OCSP(server.url)), client) == "good"
    assert outcome(store_of(ca, OCSP(server.url, nonce="required")), client) == "unavailable"


def test_a_replayed_response_does_not_undo_a_revocation(ca, client, server):
    store = store_of(ca, OCSP(server.url, nonce="none", soft_fail=True))
    server.options |= {"status": REVOKED, "begins": -60, "ends": 60}
    assert outcome(store, client) == "refused"
    server.options |= {"status": GOOD, "begins": -HOUR, "ends": HOUR}
    assert outcome(store, client, NOW + 90) == "refused"
    server.options["begins"] = 0  # removed from hold
    assert outcome(store, client, NOW + 180) == "good"


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_a_delegated_responder_may_sign(ca, client, server, by_name, key):
    server.options |= signed_by(delegate(ca, NO_CHECK, key=key)) | {"by_name": by_name}
    assert outcome(store_of(ca, OCSP(server.url)), client) == "good"


def test_a_delegated_responder_without_nocheck_is_checked_by_lists(ca, client, server, tmp_path):
    responder = delegate(ca)
    server.options |= signed_by(responder)
    path = tmp_path / "ca.crl"
    path.write_bytes(crl(ca, now=NOW))
    lists = RevocationLists([path])
    assert outcome(store_of(ca, OCSP(server.url, responder_lists=lists)), client) == "good"
    path.write_bytes(crl(ca, [responder], now=NOW, number=2, begins=-60))
    store = store_of(ca, OCSP(server.url, responder_lists=RevocationLists([path])))
    assert outcome(store, client) == "unavailable"


def test_with_signed_by_no_other_signer_is_accepted(ca, client, server, tmp_path):
    own = CertificateAuthority("CN=Local responder")
    file = tmp_path / "responder.pem"
    file.write_text(own.pem)
    for given in (own.certificate, file, str(file)):
        store = store_of(ca, OCSP(server.url, signed_by=given))
        server.options |= {"key": own.key, "named": own.certificate}
        assert outcome(store, client) == "good"
        server.options |= {"key": ca.key, "named": ca.certificate}
        assert outcome(store_of(ca, OCSP(server.url, signed_by=given)), client) == "unavailable"


def test_a_response_is_cached_until_its_next_update(ca, client, server):
    store = store_of(ca, OCSP(server.url))
    server.options["ends"] = 1_000
    for later in (0, 10, 799):
        assert outcome(store, client, NOW + later) == "good"
    assert len(server.asked) == 1
    server.options |= {"status": REVOKED, "ends": HOUR}
    assert outcome(store, client, NOW + 1_000) == "refused"
    assert len(server.asked) == 2


def test_a_response_is_cached_for_max_age_at_most(ca, client, server):
    store = store_of(ca, OCSP(server.url, max_age=100))
    server.options["ends"] = 24 * HOUR
    assert outcome(store, client) == "good"
    server.options["status"] = REVOKED
    assert outcome(store, client, NOW + 100) == "refused"


def test_a_response_without_next_update_is_not_cached(ca, client, server):
    server.options["ends"] = None
    store = store_of(ca, OCSP(server.url))
    assert [outcome(store, client) for _ in range(3)] == ["good"] * 3
    assert len(server.asked) == 3


def test_a_cached_status_is_not_used_if_the_clock_was_set_back(ca, client, server):
    store = store_of(ca, OCSP(server.url))
    server.options["ends"] = 24 * HOUR
    assert outcome(store, client, NOW + HOUR) == "good"
    assert outcome(store, client, NOW + HOUR - 20) == "good"
    assert len(server.asked) == 1
    assert outcome(store, client, NOW) == "good"
    assert len(server.asked) == 2


def test_an_old_response_is_renewed_in_the_background(ca, client, server):
    store = store_of(ca, OCSP(server.url))
    assert outcome(store, client) == "good"
    server.stall = 0.2
    for _ in range(3):
        assert outcome(store, client, NOW + 0.9 * HOUR) == "good"
    server.options["status"] = REVOKED
    until(lambda: outcome(store, client, NOW + 0.9 * HOUR) == "refused", seconds=20)
    assert len(server.asked) == 2


def test_a_dead_responder_costs_what_is_cached_and_then_503(ca, client):
    with Responder(ca, now=NOW, ends=100) as server:
        store = store_of(ca, OCSP(server.url))
        assert outcome(store, client) == "good"
    assert outcome(store, client, NOW + 90) == "good"
    assert outcome(store, client, NOW + 99) == "good"
    assert outcome(store, client, NOW + 100) == "unavailable"


def test_concurrent_requests_for_one_certificate_share_one_exchange(ca, client, server):
    store = store_of(ca, OCSP(server.url))
    server.stall = 0.5
    found = []
    threads = [threading.Thread(target=lambda: found.append(outcome(store, client))) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == ["good"] * 8
    assert len(server.asked) == 1


def test_failures_are_repeated_with_growing_delays(ca, client, server, monkeypatch):
    monkeypatch.setattr(Stopwatch, "seconds", 0.0)  # the pauses begin at the end of an exchange
    store = store_of(ca, OCSP(server.url))
    server.http_status = 500
    for later in (0, 0.4, 0.6, 1.5, 1.7):
        assert outcome(store, client, NOW + later) == "unavailable"
    assert len(server.asked) == 3
    server.http_status = 200
    assert outcome(store, client, NOW + 5) == "good"


def test_each_certificate_of_the_path_needs_a_status_unless_leaf_only(ca, server):
    below = ca.intermediate()
    client = below.issue()
    lower = Responder(below, now=NOW)
    with lower:
        responders = {ca.certificate: server.url, "CN=Test Intermediate CA,O=Tests": lower.url}
        assert outcome(store_of(ca, OCSP(responders)), client) == "good"
        assert (len(server.asked), len(lower.asked)) == (1, 1)
        server.options["status"] = REVOKED
        assert outcome(store_of(ca, OCSP(responders)), client) == "refused"
        assert outcome(store_of(ca, OCSP(responders, leaf_only=True)), client) == "good"
        only = {"CN=Test Intermediate CA,O=Tests": lower.url}
        assert "no OCSP responder" in reasons(store_of(ca, OCSP(only)), client, NOW)[1]


def test_the_responder_of_the_issuers_key_comes_before_name_and_star(ca, client, tmp_path):
    impostor = CertificateAuthority()  # the same name, another key
    path = tmp_path / "ca.pem"
    path.write_text(ca.pem)
    name = ca.certificate.subject.rfc4514_string()
    with Responder(ca, now=NOW) as right, Responder(ca, now=NOW, status=REVOKED) as wrong:
        for responders in (
            {path: right.url, name: wrong.url, "*": wrong.url},
            {str(path): right.url, impostor.certificate: wrong.url, "*": wrong.url},
            {name: right.url, "*": wrong.url, impostor.certificate: wrong.url},
            {"*": right.url, impostor.certificate: wrong.url},
        ):
            assert outcome(store_of(ca, OCSP(responders)), client) == "good"
        assert wrong.asked == []


class Source:
    """A revocation source of a user, with the same status for every certificate."""

    def __init__(self, status, soft_fail=False):
        self.status = CertificateStatus(status, status, soft_fail=soft_fail)

    def statuses(self, requests, now):
        from mtls_middleware.reusable import Reusable

        return Reusable([self.status] * len(requests))


# By the two statuses in either order.
COMBINED = {
    ("good", "good"): "good",
    ("good", "not_covered"): "good",
    ("good", "unavailable"): "good",
    ("good", "exempt"): "good",
    ("good", "unknown"): "refused",
    ("good", "revoked"): "refused",
    ("revoked", "revoked"): "refused",
    ("revoked", "unavailable"): "refused",
    ("revoked", "not_covered"): "refused",
    ("revoked", "unknown"): "refused",
    ("revoked", "exempt"): "refused",
    ("unknown", "unknown"): "refused",
    ("unknown", "unavailable"): "refused",
    ("unknown", "not_covered"): "refused",
    ("unknown", "exempt"): "refused",
    ("unavailable", "unavailable"): "unavailable",
    ("unavailable", "not_covered"): "unavailable",
    ("unavailable", "exempt"): "unavailable",
    ("not_covered", "not_covered"): "refused",
    ("not_covered", "exempt"): "refused",
    ("exempt", "exempt"): "good",
}


@pytest.mark.parametrize("pair", COMBINED, ids="-".join)
def test_two_sources_decide_the_same_in_either_order(ca, client, pair):
    for order in (pair, pair[::-1]):
        assert outcome(store_of(ca, *map(Source, order)), client) == COMBINED[pair]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("unavailable", True), ("unavailable", True), "good"),
        (("unavailable", True), ("unavailable", False), "unavailable"),
        (("not_covered", True), ("not_covered", False), "refused"),
        (("unavailable", True), ("unknown", True), "refused"),
        (("unavailable", True), ("revoked", False), "refused"),
        (("unavailable", True), ("exempt", False), "good"),
    ],
)
def test_soft_fail_needs_the_consent_of_each_source_that_checks(ca, client, one, other, expected):
    for order in itertools.permutations([one, other]):
        assert outcome(store_of(ca, *(Source(*each) for each in order)), client) == expected


@pytest.mark.parametrize("status", ["Revoked", "", None, True])
def test_a_status_that_does_not_exist_is_a_configuration_error(status):
    with pytest.raises(ConfigurationError, match=r"status=.*expected 'good', 'revoked'"):
        CertificateStatus(status, soft_fail=True)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("order", [1, -1])
def test_a_good_response_never_overrides_a_list(ca, client, server, tmp_path, listed, order):  # noqa: PLR0917 (fixtures)
    (tmp_path / "ca.crl").write_bytes(crl(ca, [client] if listed else [], now=NOW))
    store = store_of(ca, *[OCSP(server.url), RevocationLists([tmp_path])][::order])
    assert outcome(store, client) == ("refused" if listed else "good")
    assert len(server.asked) == 1


def test_a_list_decides_while_the_responder_is_dead(ca, client, tmp_path):
    (tmp_path / "ca.crl").write_bytes(crl(ca, now=NOW))
    dead = OCSP(f"http://127.0.0.1:{free_port()}/")
    assert outcome(store_of(ca, dead), client) == "unavailable"
    assert outcome(store_of(ca, dead, RevocationLists([tmp_path])), client) == "good"


def test_each_use_of_soft_fail_is_logged(ca, client, caplog):
    caplog.set_level("INFO", "mtls_middleware")
    store = store_of(ca, OCSP(f"http://127.0.0.1:{free_port()}/", soft_fail=True))
    assert [outcome(store, client) for _ in range(3)] == ["good"] * 3
    uses = [each.levelname for each in caplog.records if "accepted because of soft_fail" in each.message]
    assert uses == ["WARNING", "INFO", "INFO"]


def test_an_address_in_a_certificate_is_never_used(ca, server):
    with Responder(ca, now=NOW) as other:
        access = x509.AccessDescription(
            x509.AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(other.url)
        )
        client = ca.issue(extensions=[(x509.AuthorityInformationAccess([access]), False)])
        assert outcome(store_of(ca, OCSP(server.url)), client) == "good"
        assert other.asked == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"responders": {}}, "responders"),
        ({"responders": "ftp://ocsp.test"}, "responders"),
        ({"responders": {"*": "no URL"}}, "responders"),
        ({"responders": {"CN": "http://ocsp.test"}}, "cannot be read"),
        ({"responders": {"=x": "http://ocsp.test"}}, "distinguished name"),
        ({"responders": {3: "http://ocsp.test"}}, "unexpected 3"),
        ({"responders": {"CN=a": "http://ocsp.test", "CN=A": "http://other.test"}}, "two entries"),
        ({"responders": "http://ocsp.test", "allow_http": False}, "https"),
        ({"responders": "http://ocsp.test", "max_age": 0}, "max_age"),
        ({"responders": "http://ocsp.test", "timeout": 0}, "timeout"),
        ({"responders": "http://ocsp.test", "signed_by": "missing.pem"}, "signed_by"),
        ({"responders": "http://ocsp.test", "nonce": "no"}, "nonce"),
        ({"responders": "http://ocsp.test", "method": "PUT"}, "method"),
        ({"responders": "http://ocsp.test?a=b", "method": "GET"}, "expected a URL without"),
        ({"responders": "http://ocsp.test", "responder_lists": ["a.crl"]}, "responder_lists"),
    ],
    ids=str,
)
def test_wrong_configuration_is_a_configuration_error(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        OCSP(**arguments)


@pytest.mark.parametrize("revocation", [[], "a.crl", [None], OCSP, 3])
def test_a_revocation_that_is_no_source_is_a_configuration_error(ca, revocation):
    with pytest.raises(ConfigurationError, match="revocation"):
        TrustStore([ca.certificate], revocation=revocation)


def test_a_result_is_reusable_until_a_renewal_is_due(ca, client, server):
    store = store_of(ca, OCSP(server.url))
    found = BlockingDriver().run(decide(store, presented(client), NOW))
    assert NOW < found.ends <= NOW + HOUR
    assert all(check(NOW + 10) for check in found.checks)
    assert not all(check(NOW + 0.9 * HOUR) for check in found.checks)
    server.options["status"] = REVOKED
    with pytest.raises(Refused):
        BlockingDriver().run(decide(store, presented(client), NOW + HOUR))
    assert not all(check(NOW + 10) for check in found.checks)


def test_the_request_has_sha_1_or_sha_256(ca, client, server):
    for name in ("SHA-1", "SHA-256"):
        assert outcome(store_of(ca, OCSP(server.url, hash_algorithm=name)), client) == "good"
    found = [ocsp.load_der_ocsp_request(der) for _, der in server.asked]
    assert [each.hash_algorithm.name for each in found] == ["sha1", "sha256"]
    expected = ocsp.OCSPRequestBuilder().add_certificate(client.x509, ca.certificate, SHA1).build()
    assert found[0].issuer_key_hash == expected.issuer_key_hash
    assert found[0].issuer_name_hash == expected.issuer_name_hash
    assert found[0].public_bytes(Encoding.DER)
