"""Which of several revocation lists is in force: never the order of files, and never a list that was put back."""

import dataclasses
import itertools
import logging
import time

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from mtls_middleware import dependencies
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import RevocationLists, TrustStore, crl, known_lists
from mtls_middleware.validation.crl import StatusRequest
from mtls_middleware.validation.known_lists import KnownLists, status
from tests.growth import assert_grows
from tests.key_server import KeyServer
from tests.validation.authority import HOUR
from tests.validation.authority import crl as signed_list
from tests.validation.test_files import errors, replace
from tests.validation.test_revocation_lists import points, scope
from tests.validation.verdicts import reasons

NOW = float(int(time.time()))  # the times of a list are whole seconds
URI = x509.UniformResourceIdentifier
PRINTABLE = x509.name._ASN1Type.PrintableString


@pytest.fixture(scope="module")
def ca():
    return CertificateAuthority("CN=Our CA")


@pytest.fixture(scope="module")
def client(ca):
    return ca.issue("CN=client", extensions=[points("http://crl.internal/1")])


@pytest.fixture(scope="module")
def ours(ca, client):
    return ca, client


@pytest.fixture(scope="module")
def kinds(ca, client):
    """By name: the DER of a list. The ones that begin with `names` name the client."""
    impostor = CertificateAuthority("CN=Our CA")  # the same name, and another key
    other = CertificateAuthority("CN=Other CA")
    spelt = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "OUR  ca", _type=PRINTABLE)])
    place = [scope(full_name=[URI("http://crl.internal/1")])]
    elsewhere = [scope(full_name=[URI("http://crl.internal/2")])]
    cas = [scope(only_contains_ca_certs=True)]
    named = {
        "current": {},
        "expired": {"begins": -2 * HOUR, "ends": -1},
        "in the future": {"begins": 30},
        "under another spelling": {"issuer": spelt},
        "of its partition": {"extensions": place},
        "of another partition": {"extensions": elsewhere},
        "of CAs only": {"extensions": cas},
        "for clients only": {"extensions": [scope(only_contains_user_certs=True)]},
    }
    found = {f"names it, {name}": signed_list(ca, [client], now=NOW, **options) for name, options in named.items()}
    return found | {
        "other, current": signed_list(ca, [5], now=NOW, number=2),
        "other, older": signed_list(ca, [5], now=NOW, begins=-2 * HOUR, number=0),
        "other, expired": signed_list(ca, [5], now=NOW, begins=-3 * HOUR, ends=-1, number=0),
        "other, in the future": signed_list(ca, [5], now=NOW, begins=30, number=3),
        "other, newer of another key": signed_list(impostor, [5], now=NOW, begins=-1, number=9),
        "names it, of another key": signed_list(impostor, [client], now=NOW, begins=-1, number=9),
        "names its number, of another issuer": signed_list(other, [client], now=NOW, begins=-1, number=9),
    }


# The result for lists alone and in any pair, in both orders: revoked, good or unknown.
REVOKING = {"current", "expired", "in the future", "under another spelling", "of its partition", "of another partition"}
REVOKING = {f"names it, {name}" for name in REVOKING | {"of CAs only", "for clients only"}}
# A list of the client's own scope that is newer, and does not name it: only this takes a name off the list.
RELEASED = {"names it, current", "names it, expired", "names it, under another spelling"}
GOOD = {"other, current", "other, older"}
KINDS = [
    *sorted(REVOKING),
    *sorted(GOOD),
    "other, expired",
    "other, in the future",
    "other, newer of another key",
    "names it, of another key",
    "names its number, of another issuer",
]


def expected(lists):
    revoking = REVOKING & lists
    if "other, current" in lists:
        revoking -= RELEASED  # equal thisUpdate and a higher number, or later thisUpdate
    if revoking:
        return "revoked"
    return "good" if GOOD & lists else "unknown"


@pytest.mark.parametrize("soft_fail", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("lists", [*((each,) for each in KINDS), *itertools.combinations(KINDS, 2)], ids=" + ".join)
def test_the_order_of_lists_and_soft_fail_never_un_revoke(tmp_path, ours, kinds, lists, soft_fail):
    (ca, client), found = ours, set()
    for number, order in enumerate(itertools.permutations(lists)):
        folder = tmp_path / str(number)
        folder.mkdir()
        files = [folder / f"{place}.crl" for place in range(len(order))]
        for file, name in zip(files, order, strict=True):
            file.write_bytes(kinds[name])
        store = TrustStore([ca.certificate], revocation=RevocationLists(files, soft_fail=soft_fail))
        result = reasons(store, client, NOW)
        found.add("good" if result == () else "revoked" if "is revoked" in str(result) else "unknown")
    wanted = expected(set(lists))
    assert found == {"good" if soft_fail and wanted == "unknown" else wanted}


def publish(path, ca, revoked, number, begins, **options):
    replace(path, signed_list(ca, revoked, now=NOW, number=number, begins=begins, ends=24 * HOUR, **options))


def store_of(ca, *paths, **options):
    return TrustStore([ca.certificate], revocation=RevocationLists(paths, **options))


def files_of(store):
    (lists,) = store._sources._sources
    return lists._files


def is_revoked(store, client, now):
    return "is revoked" in str(reasons(store, client, now))


OLDER = {"thisUpdate": (1, -HOUR - 60), "cRLNumber": (0, -HOUR), "both": (0, -HOUR - 60)}


@pytest.mark.parametrize("is_used_before", [False, True])
@pytest.mark.parametrize("older", OLDER.values(), ids=OLDER)
def test_an_older_list_that_is_put_back_is_rejected_and_logged(tmp_path, ours, older, is_used_before, caplog):
    (ca, client), path, events = ours, tmp_path / "ca.crl", []
    publish(path, ca, [client], 1, -HOUR)
    store = store_of(ca, path, soft_fail=True)
    if is_used_before:
        assert is_revoked(store, client, NOW)
    publish(path, ca, [], *older)
    stop = dependencies.observe(lambda event, reason: events.append(event))
    for seconds in range(1, 5):
        assert is_revoked(store, client, NOW + seconds)
    stop()
    assert len([line for line in errors(caplog) if "ca.crl: the revocation list" in line and "is older" in line]) == 1
    assert events == ["revocation_list_failed"]
    publish(path, ca, [], 2, -HOUR + 1)
    assert reasons(store, client, NOW + 9) == ()
    assert reasons(store_of(ca, path), client, NOW) == ()  # a process that starts cannot know


def test_an_older_list_from_a_url_is_rejected_and_logged(ca, client, caplog):
    def octets(revoked, number, begins):
        return signed_list(ca, revoked, now=NOW, number=number, begins=begins, ends=24 * HOUR)

    with KeyServer(octets([client], 5, -HOUR)) as server:
        store = TrustStore([ca.certificate], revocation=RevocationLists(urls=[server.url], allow_http=True))
        assert is_revoked(store, client, NOW)
        for turn, (number, begins) in enumerate([(5, -HOUR - 9), (4, -HOUR), (4, -HOUR - 9)], 1):
            server.jwks = octets([], number, begins)
            assert is_revoked(store, client, NOW + 700 * turn)
            assert len(errors(caplog)) == turn
            assert f"{server.url}: the revocation list" in errors(caplog)[-1]
        server.jwks = octets([], 6, -HOUR)
        assert reasons(store, client, NOW + 2800) == ()


@pytest.mark.parametrize("number", [1, 3], ids=["equal numbers", "a lower number and a later thisUpdate"])
def test_if_it_is_not_certain_which_list_is_newer_both_are_in_force(tmp_path, ca, client, number, caplog):
    other, path = ca.issue("CN=other"), tmp_path / "ca.crl"
    publish(path, ca, [client], number, -HOUR)
    store = store_of(ca, path)
    assert is_revoked(store, client, NOW)
    publish(path, ca, [other], 1, -HOUR if number == 1 else -60)
    assert is_revoked(store, client, NOW + 1)
    assert is_revoked(store, other, NOW + 1)
    assert reasons(store, ca.issue("CN=third"), NOW + 1) == ()
    assert "is neither newer nor older" in caplog.text


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize("how", ["deleted", "link to nothing", "broken", "of another key", "moved", "directory gone"])
def test_what_happens_to_a_file_never_un_revokes(tmp_path, ours, soft_fail, how, caplog):
    ca, client = ours
    good, folder = ca.issue("CN=good"), tmp_path / "lists"
    folder.mkdir()
    path, real = folder / "ca.crl", tmp_path / "real"
    publish(real, ca, [client], 1, -HOUR)
    path.symlink_to(real)
    (folder / "other.crl").write_bytes(signed_list(CertificateAuthority("CN=Other CA"), now=NOW, ends=24 * HOUR))
    store = store_of(ca, folder, soft_fail=soft_fail)
    assert is_revoked(store, client, NOW)
    match how:
        case "deleted":
            path.unlink()
        case "link to nothing":
            real.unlink()
        case "broken":
            replace(real, b"junk")
        case "of another key":
            publish(real, CertificateAuthority("CN=Our CA"), [], 9, -1)
        case "moved":
            path.rename(folder / "moved.crl")
        case "directory gone":
            folder.rename(tmp_path / "gone")
    for seconds in (1, 2, 4, 23 * HOUR):
        assert is_revoked(store, client, NOW + seconds)
        assert reasons(store, good, NOW + seconds) == ()  # the list is in use until it expires
    assert is_revoked(store, client, NOW + 25 * HOUR)  # and names what it names after that
    assert (reasons(store, good, NOW + 25 * HOUR) == ()) is soft_fail
    assert any(line.levelno >= logging.WARNING for line in caplog.records) or how == "of another key"
    folder.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    (folder / "moved.crl").unlink(missing_ok=True)
    publish(path, ca, [], 2, -60)
    assert reasons(store, client, NOW + 30) == ()


def test_a_list_of_the_future_replaces_no_list_before_its_time(tmp_path, ca, client):
    other, path = ca.issue("CN=other"), tmp_path / "ca.crl"
    publish(path, ca, [client], 1, -HOUR)
    store = store_of(ca, path)
    assert is_revoked(store, client, NOW)
    publish(path, ca, [other], 2, 30)
    for seconds in (1, 2, 29):
        assert is_revoked(store, client, NOW + seconds)
        assert is_revoked(store, other, NOW + seconds)
        assert reasons(store, ca.issue(), NOW + seconds) == ()
    assert reasons(store, client, NOW + 30) == ()
    assert is_revoked(store, other, NOW + 30)


def test_a_list_only_of_the_future_says_so(tmp_path, ca, client):
    publish(tmp_path / "ca.crl", ca, [], 1, 30)
    assert "thisUpdate is 30 s ahead" in str(reasons(store_of(ca, tmp_path / "ca.crl"), client, NOW))


def test_a_list_of_an_impostor_replaces_nothing_even_before_a_request(tmp_path, ca, client):
    path, impostor = tmp_path / "ca.crl", CertificateAuthority("CN=Our CA")
    publish(path, ca, [client], 1, -HOUR)
    store = store_of(ca, path, soft_fail=True)
    for number in (7, 8):
        publish(path, impostor, [], number, -60 + number)
        files_of(store).current(NOW + number)  # no certificate of this CA is checked meanwhile
    assert is_revoked(store, client, NOW + 20)


def in_memory(store):
    return len(files_of(store).current(NOW + 1e6).all)


@pytest.mark.parametrize("is_used", [True, False])
def test_lists_that_are_replaced_do_not_fill_the_memory(tmp_path, ca, client, is_used):
    """A directory in which each list has a name of its own, with and without clients of the CA."""
    publish(tmp_path / "0.crl", ca, [1], 0, -HOUR)
    store = store_of(ca, tmp_path)
    for number in range(1, 20):
        if is_used:
            assert reasons(store, client, NOW + number) == ()
        publish(tmp_path / f"{number}.crl", ca, [1], number, -HOUR + number)
        (tmp_path / f"{number - 1}.crl").unlink()
        files_of(store).current(NOW + 100 * number)
    assert in_memory(store) <= (1 if is_used else 9)


def test_a_ca_whose_numbers_decrease_does_not_fill_the_memory(tmp_path, ca, client):
    path = tmp_path / "ca.crl"
    publish(path, ca, [1], 100, -HOUR)
    store = store_of(ca, path)
    for number in range(1, 40):
        reasons(store, client, NOW + number)
        publish(path, ca, [1], 100 - number, -HOUR + number)
    assert in_memory(store) <= 9


@pytest.mark.parametrize("is_used", [True, False])
def test_a_ca_whose_scopes_change_does_not_fill_the_memory(tmp_path, ca, client, is_used, monkeypatch):
    monkeypatch.setattr(known_lists, "_MAX_VERIFIED" if is_used else "_MAX_UNVERIFIED", 5_100)
    path = tmp_path / "ca.crl"
    publish(path, ca, [1], 1, -HOUR)
    store = store_of(ca, path)
    for number in range(1, 20):
        place = [URI(f"http://crl.internal/{number}"), URI("http://crl.internal/1")]
        publish(path, ca, [1], number, -HOUR + number, extensions=[scope(full_name=place)])
        if is_used:
            reasons(store, client, NOW + number)
        else:
            files_of(store).current(NOW + number)
    assert in_memory(store) == 1 + 5


def test_junk_lists_do_not_push_out_a_list_that_is_in_use(tmp_path, ca, client):
    path, impostor = tmp_path / "ca.crl", CertificateAuthority("CN=Our CA")
    publish(path, ca, [client], 1, -HOUR)
    store = store_of(ca, path, soft_fail=True)
    assert is_revoked(store, client, NOW)
    for number in range(2, 30):
        publish(path, impostor, [], number, number)
        files_of(store).current(NOW + number)
    assert is_revoked(store, client, NOW + 40)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 5)), max_size=8))
def test_the_lists_in_force_are_those_that_no_list_in_effect_supersedes(ca, client, orders):
    request = StatusRequest(client.x509, ca.certificate)
    one = crl.parse(signed_list(ca, now=NOW))
    assert one.is_signed_by_issuer(request)
    lists = [dataclasses.replace(one, this_update=NOW + begins, number=number) for begins, number in orders]
    wanted = [each for each in lists if not any(other.supersedes(each) and other.this_update <= NOW for other in lists)]
    found = known_lists._in_force(request, lists, NOW)
    assert sorted(map(id, found)) == sorted(map(id, wanted))


def test_many_lists_of_one_scope_cost_no_more_than_their_number(ca, client):
    def prepare(count):
        one, request = crl.parse(signed_list(ca, now=NOW)), StatusRequest(client.x509, ca.certificate)
        assert one.is_signed_by_issuer(request)
        lists = [dataclasses.replace(one, this_update=NOW - each, number=each) for each in range(count)]
        return lambda: status(request, lists, NOW)

    assert_grows(prepare, 50, 1000, at_most=60)


def test_an_unchanged_list_is_one_object(tmp_path, ca, client):
    path = tmp_path / "ca.crl"
    publish(path, ca, [client], 1, -HOUR)
    store = store_of(ca, path)
    assert is_revoked(store, client, NOW)
    (before,) = files_of(store).current(NOW).all
    replace(path, path.read_bytes())
    (after,) = files_of(store).current(NOW + 1).all
    assert after is before


def test_many_partitions_cost_no_more_than_their_number(ca):
    def prepare(count):
        lists = {
            str(number): crl.parse(
                signed_list(ca, now=NOW, extensions=[scope(full_name=[URI(f"http://crl.internal/{number}")])])
            )
            for number in range(count)
        }
        known = KnownLists.of(lists)
        request = StatusRequest(ca.issue(extensions=[points("http://crl.internal/0")]).x509, ca.certificate)
        found = known.by_issuer[request.issuer_name]
        return lambda: status(request, found, NOW)

    assert_grows(prepare, 20, 400, at_most=60)
