"""Long lists are parsed in short steps, into a set that needs little memory, and mean what `cryptography` reads."""

import base64
import threading
import time
import tracemalloc
from io import BytesIO

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtls_middleware.der import header, read_header, read_value, read_values
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import RevocationLists, TrustStore, crl, crl_reader, serial_numbers
from mtls_middleware.validation.crl_reader import CRLReader
from mtls_middleware.validation.files import MAX_INLINE_SIZE
from mtls_middleware.validation.serial_numbers import SerialNumbers
from tests.key_server import KeyServer, until
from tests.validation.authority import crl as signed_list
from tests.validation.authority import long_crl
from tests.validation.test_files import replace
from tests.validation.test_revocation_lists import scope
from tests.validation.verdicts import reasons

NOW = float(int(time.time()))
CA = CertificateAuthority()
ONE = signed_list(CA, [3, 4, 2**100], now=NOW, entries=[(x509.CRLReason(x509.ReasonFlags.key_compromise), False)])
NUMBERS = st.integers(-(2**130), 2**160)


@pytest.fixture(params=[1, 40, 10_000], ids="slices of {} bytes".format)
def size_of_slices(request, monkeypatch):
    monkeypatch.setattr(crl_reader, "_SLICE", request.param)
    monkeypatch.setattr(crl_reader, "_CHUNK", request.param + 2)


@settings(max_examples=300)
@given(st.lists(NUMBERS, max_size=60), st.lists(NUMBERS, max_size=20), st.sampled_from([1, 3, 64]))
def test_the_set_is_the_set(numbers, others, per_bucket):
    kept, serial_numbers._PER_BUCKET = serial_numbers._PER_BUCKET, per_bucket
    try:
        found = SerialNumbers(numbers, len(numbers))
    finally:
        serial_numbers._PER_BUCKET = kept
    assert len(found) == len(numbers)
    for each in {*numbers, *others, *(each + 1 for each in numbers), *(each << 8 for each in numbers)}:
        assert (each in found) == (each in set(numbers))


@pytest.mark.parametrize("expected", [0, 1, 10, 10**6])
def test_a_number_that_lies_across_two_others_is_not_in_the_set(expected):
    found = SerialNumbers([0x0101, 0x0202, 0x1111, 0x1112], expected)
    assert [number for number in range(0x2000) if number in found] == [0x0101, 0x0202, 0x1111, 0x1112]


@pytest.mark.usefixtures("size_of_slices")
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 2**150), max_size=50))
def test_a_list_has_the_numbers_and_the_digest_that_cryptography_reads(numbers):
    octets = long_crl(CA, numbers, now=NOW)
    whole, found = x509.load_der_x509_crl(octets), crl.parse(octets)
    assert sorted(each.serial_number for each in whole) == sorted(numbers)
    assert all(each in found.serials for each in numbers)
    assert len(found.serials) == len(numbers)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(whole.tbs_certlist_bytes)
    assert found.digest == digest.finalize()
    assert found.is_signed_by(CA.certificate)


@pytest.mark.usefixtures("size_of_slices")
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(ONE) - 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_changed_list_is_read_as_cryptography_reads_it_or_is_an_error(changes):
    octets = bytearray(ONE)
    for position, value in changes:
        octets[position] = value
    try:
        found = crl.parse(bytes(octets))
    except ValueError:
        return
    whole = x509.load_der_x509_crl(bytes(octets))
    assert all(each.serial_number in found.serials for each in whole)
    assert len(found.serials) == len(list(whole))
    assert found.number == whole.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def longer_length(octets, position):
    """The DER with a length in one byte more than needed."""
    assert octets[position] & 0xF0 == 0x80
    return octets[:position] + bytes([octets[position] + 1, 0]) + octets[position + 1 :]


@pytest.mark.usefixtures("size_of_slices")
@pytest.mark.parametrize(
    "octets",
    [
        ONE + b"\0",
        ONE[:-1],
        b"\x31" + ONE[1:],
        longer_length(ONE, 1),
        ONE[:2] + ONE[3:],
        b"\x30\x80" + ONE[4:] + b"\0\0",
        b"\x30\x84\xff\xff\xff\xff" + ONE[4:],
    ],
    ids=["byte after it", "cut", "SET", "longer length", "shorter", "indefinite length", "4 GB"],
)
def test_a_list_that_is_not_der_is_an_error(octets):
    with pytest.raises(ValueError, match=r"\w"):
        crl.parse(octets)


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\5\0")


def entries_of(der):
    """The entries of a list that `CRLReader.slices` yields: the last field of tbsCertList."""
    fields = list(read_values(read_value(read_value(der)[1])[1]))
    return fields[-1][1]


def with_entries(octets, entries):
    """The DER of a list with other entries, whose signature does not verify."""
    reader = CRLReader(BytesIO(octets))
    list(reader.slices())
    body, rest = (reader.finish()[0], b"")
    start, end = read_header(body)
    signed_start, signed_end = read_header(body, start)
    signed, rest = body[signed_start:signed_end], body[signed_end:end]
    before = reader._before
    signed = before + value(0x30, entries) + signed[len(before) :]
    return value(0x30, value(0x30, signed) + rest)


def value(tag, content):
    return header(tag, len(content)) + content


@pytest.mark.usefixtures("size_of_slices")
@pytest.mark.parametrize("place", ["first", "last"])
def test_one_critical_extension_among_many_entries_is_found(place):
    octets = signed_list(CA, range(1, 40), now=NOW, entries=[(UNKNOWN, False)])
    critical = signed_list(CA, [99], now=NOW, entries=[(UNKNOWN, True)])
    assert crl.parse(octets)
    entries = [b"".join(map(entries_of, CRLReader(BytesIO(each)).slices())) for each in (octets, critical)]
    with pytest.raises(ValueError, match=r"critical extension: 1\.3\.6\.1\.4\.1\.99999\.1"):
        crl.parse(with_entries(octets, b"".join(entries if place == "last" else reversed(entries))))


def test_a_critical_extension_of_the_list_is_not_searched_for_in_entries(monkeypatch):
    def fail(_):
        raise AssertionError("slow")

    monkeypatch.setattr(crl, "_refuse_critical_entries", fail)
    assert len(crl.parse(signed_list(CA, [1], now=NOW, extensions=[scope(only_contains_ca_certs=True)])).serials) == 1


def pem(octets, width=64, end=b"\n"):
    text = base64.b64encode(octets)
    lines = [text[start : start + width] for start in range(0, len(text), width)]
    return end.join([b"-----BEGIN X509 CRL-----", *lines, b"-----END X509 CRL-----", b""])


@pytest.mark.parametrize("chunk", [3, 7, 100, 65_536])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_pem_is_decoded_in_chunks(chunk, end, monkeypatch):
    monkeypatch.setattr(crl_reader, "_CHUNK", chunk)
    digest = crl.parse(ONE).digest
    assert crl.parse(x509.load_der_x509_crl(ONE).public_bytes(Encoding.PEM)).digest == digest
    for text in (
        pem(ONE, end=end),
        pem(ONE, 76, end),
        pem(ONE, 10_000, end),
        b"0 text before" + end + pem(ONE, end=end),
    ):
        assert crl.parse(text).digest == digest


@pytest.mark.parametrize("chunk", [3, 100, 65_536])
@pytest.mark.parametrize(
    "text",
    [
        pem(ONE)[:-30],
        pem(ONE).replace(b"A", b"!", 1),
        pem(ONE).replace(b"X509 CRL", b"CERTIFICATE"),
        pem(ONE).replace(b"END X509 CRL", b"END CERTIFICATE"),
        pem(ONE) * 2,
        pem(ONE)[:-26] + b"A" + pem(ONE)[-26:],
        b"-----END X509 CRL-----" + pem(ONE)[:-24],
        pem(b""),
        b"0" * 300,
    ],
    ids=["no end", "no base64", "other label", "other end", "two", "one letter more", "wrong order", "empty", "text"],
)
def test_what_is_not_one_pem_block_is_an_error(text, chunk, monkeypatch):
    monkeypatch.setattr(crl_reader, "_CHUNK", chunk)
    with pytest.raises(ValueError, match=r"\w"):
        crl.parse(text)


@pytest.mark.parametrize("form", ["DER", "PEM"])
def test_other_threads_may_run_after_each_slice(form, monkeypatch):
    octets, rests, sizes = long_crl(CA, range(2**80, 2**80 + 10_000), now=NOW), [], []
    real = x509.load_der_x509_crl
    monkeypatch.setattr(x509, "load_der_x509_crl", lambda der: (sizes.append(len(der)), real(der))[1])
    crl.read(BytesIO(octets if form == "DER" else pem(octets)), lambda: rests.append(1))
    assert len(rests) >= len(octets) // 33_000
    assert max(sizes) < 33_500  # nothing is parsed or serialised as a whole


@pytest.mark.parametrize("form", ["DER", "PEM"])
def test_a_long_list_needs_little_memory(tmp_path, form):
    numbers = [x509.random_serial_number() for _ in range(20_000)]
    octets = long_crl(CA, numbers, now=NOW)
    (tmp_path / "a.crl").write_bytes(octets if form == "DER" else pem(octets))
    tracemalloc.start()
    with (tmp_path / "a.crl").open("rb") as file:
        found = crl.read(file)
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.serials) == 20_000
    assert held / 20_000 < 20 + 12  # a number has 20 bytes
    assert most / 20_000 < 3 * (20 + 1 + 8)  # at most three times a number, a reason and a date


@pytest.mark.parametrize("text", [b"-", b"0" * 2_000_000, b"-----BEGIN X509 CRL-----\n" + b"A" * 2_000_000])
def test_a_file_without_a_list_needs_little_memory(tmp_path, text):
    (tmp_path / "a.crl").write_bytes(text)
    tracemalloc.start()
    with (tmp_path / "a.crl").open("rb") as file, pytest.raises(ValueError, match=r"\w"):
        crl.read(file)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_500_000


@pytest.mark.parametrize("field", ["before", "after"])
def test_fields_that_are_too_long_are_an_error(field):
    size = 1_100_000
    if field == "before":
        octets = value(0x30, value(0x30, value(2, b"\1") + value(0x30, bytes(size))))
    else:
        octets = with_entries(ONE, b"")
        octets = value(0x30, read_value(octets)[1] + value(4, bytes(size)))
    with pytest.raises(ValueError, match="more than 1048576 bytes"):
        crl.parse(octets)


LONG = 20_000  # entries, in more than `MAX_INLINE_SIZE` bytes


@pytest.fixture
def parsing_threads(monkeypatch):
    found, real = [], crl.read

    def read(*arguments):
        found.append(threading.current_thread())
        return real(*arguments)

    monkeypatch.setattr(crl, "read", read)
    return found


@pytest.mark.parametrize("source", ["file", "URL"])
@pytest.mark.parametrize("is_long", [True, False])
def test_a_long_list_is_parsed_by_a_thread_and_a_short_one_by_the_request(tmp_path, source, is_long, parsing_threads):
    client, path = CA.issue(), tmp_path / "ca.crl"
    path.write_bytes(signed_list(CA, now=NOW))
    with KeyServer(path.read_bytes()) as server:
        options = {"files": [path]} if source == "file" else {"urls": [server.url], "allow_http": True}
        store = TrustStore([CA.certificate], revocation=RevocationLists(**options))
        assert reasons(store, client, NOW) == ()
        numbers = [client.x509.serial_number, *range(1, LONG if is_long else 3)]
        server.jwks = long_crl(CA, numbers, now=NOW + 10)
        assert (len(server.jwks) > MAX_INLINE_SIZE) == is_long
        replace(path, server.jwks)
        parsing_threads.clear()
        until(lambda: "is revoked" in str(reasons(store, client, NOW + 700)))
    (thread,) = parsing_threads
    assert (thread is threading.main_thread()) != is_long


def test_requests_wait_for_the_thread_that_parses_the_first_list_of_a_url(parsing_threads):
    client = CA.issue()
    with KeyServer(long_crl(CA, [client.x509.serial_number, *range(1, LONG)], now=NOW)) as server:
        for soft_fail in (False, True):
            lists = RevocationLists(urls=[server.url], allow_http=True, soft_fail=soft_fail)
            assert "is revoked" in str(reasons(TrustStore([CA.certificate], revocation=lists), client, NOW))
    assert all(thread is not threading.main_thread() for thread in parsing_threads)


@pytest.mark.parametrize("source", ["file", "URL"])
def test_a_long_list_that_is_broken_is_tried_again(tmp_path, source, caplog):
    client, path = CA.issue(), tmp_path / "ca.crl"
    path.write_bytes(signed_list(CA, now=NOW, ends=100_000))
    good = long_crl(CA, [client.x509.serial_number, *range(1, LONG)], now=NOW + 10)
    with KeyServer(path.read_bytes()) as server:
        options = {"files": [path]} if source == "file" else {"urls": [server.url], "allow_http": True}
        store = TrustStore([CA.certificate], revocation=RevocationLists(**options))
        assert reasons(store, client, NOW) == ()
        server.jwks = good[:-1000] + bytes(1000)
        replace(path, server.jwks)
        until(
            lambda: (
                (reasons(store, client, NOW + 700) == () and "again" in caplog.text) or "next attempt" in caplog.text
            )
        )
        server.jwks = good
        replace(path, good)
        until(lambda: "is revoked" in str(reasons(store, client, NOW + 705)))


def test_two_checks_do_not_start_two_threads(tmp_path, monkeypatch):
    gate, path, begun = threading.Event(), tmp_path / "a.crl", []
    path.write_bytes(signed_list(CA, now=NOW))
    lists = RevocationLists([path])
    monkeypatch.setattr(lists._files, "_parse", lambda file: begun.append(1) or gate.wait(10))
    replace(path, long_crl(CA, range(1, LONG), now=NOW))
    for second in range(1, 10):
        lists._files.current(NOW + second)
    until(lambda: begun)
    assert len(begun) == 1
    assert sum(each.name == "mtls-middleware files" for each in threading.enumerate()) == 1
    gate.set()
    until(lambda: not lists._files._thread.is_alive())
