"""What a trusted peer's fields must be, over real servers: one plain statement, or 400 and no application.

Twins in underscores, duplicates, verification words that contradict, folded lines, chains.
"""

from collections.abc import Iterator

import pytest

from mtls_middleware.testing import IssuedCertificate
from tests.live.case_servers import ASGI, SERVERS, Server, started
from tests.live.claims import CA, CLAIMS, EVIL, GOOD, base64, expected_report

pytestmark = pytest.mark.live

MALFORMED = (400, "invalid_client_certificate")
ABSENT, REFUSED = (403, "client_certificate_required"), (403, "client_certificate_refused")

CLAIM = CERTIFICATE, SUCCESS = CLAIMS["nginx"](GOOD)
FAILED, NONE = b"X-SSL-Client-Verify: FAILED:self signed certificate", b"X-SSL-Client-Verify: NONE"
TWINS = [line.replace(b"-", b"_", 3) for line in CLAIMS["nginx"](EVIL)]

CHAINED = CA.intermediate("CN=One").intermediate("CN=Two").issue("CN=chained")
CHAIN = CHAINED.as_client_cert()["Client-Cert-Chain"].split(", ")


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with started(request.param) as server:
        yield server


@pytest.mark.case("007")
def test_names_with_underscores_carry_no_certificate(server: Server) -> None:
    for lines in (TWINS, [NONE, *TWINS], [*TWINS, NONE]):
        answer = server.get("/nginx/loopback", *lines)
        assert (answer.certificate, answer.leaks) == (None, [])
        assert server.get("/nginx/loopback/required", *lines).refusal == ABSENT
    for lines in ([*CLAIM, *TWINS], [*TWINS, *CLAIM]):
        answer = server.get("/nginx/loopback", *lines)
        assert (answer.certificate, answer.leaks) == (expected_report(GOOD), [])
    for lines in ([TWINS[0], SUCCESS], [SUCCESS, TWINS[0]], [CERTIFICATE, TWINS[1]]):
        assert server.get("/nginx/loopback", *lines).refusal == MALFORMED


@pytest.mark.case("009", "010", "011", "057")
@pytest.mark.standard("I2")
@pytest.mark.parametrize("source", CLAIMS)
def test_two_certificate_lines_are_refused_whatever_they_say(server: Server, source: str) -> None:
    """ASGI servers give both; WSGI servers one value with a comma, where Traefik has one itself.

    In Traefik's list, the same certificate twice is a client that sent its leaf twice.
    """
    own, evil = CLAIMS[source](GOOD), CLAIMS[source](EVIL)
    for lines in ([*own, evil[0]], [evil[0], *own], [own[0].split(b":")[0] + b":", *own]):
        assert server.get(f"/{source}/loopback", *lines).refusal == MALFORMED
    twice = server.get(f"/{source}/loopback", *own, own[0])
    assert twice.refusal == MALFORMED or (source, twice.certificate) == ("traefik", expected_report(GOOD))


@pytest.mark.case("024", "026", "028")
@pytest.mark.parametrize(
    "lines",
    [
        [CERTIFICATE],
        [CERTIFICATE, NONE],
        [SUCCESS],
        [CERTIFICATE, SUCCESS, FAILED],
        [CERTIFICATE, FAILED, SUCCESS],
        [CERTIFICATE, SUCCESS, SUCCESS],
        [NONE, CERTIFICATE, SUCCESS],
        [CERTIFICATE, b"X-SSL-Client-Verify: success"],
    ],
    ids=["no word", "NONE", "no certificate", "+FAILED", "FAILED+", "twice", "NONE+", "other case"],
)
def test_certificate_and_verification_header_must_agree(server: Server, lines: list[bytes]) -> None:
    for required in ("", "/required"):
        assert server.get(f"/nginx/loopback{required}", *lines).refusal == MALFORMED


@pytest.mark.case("024")
def test_a_server_removes_no_field_that_connection_names(server: Server) -> None:
    """A proxy may, and then the word is missing, which is 400; here it must not turn into something else."""
    for named in (b"X-SSL-Client-Verify", b"X-SSL-Client-Cert", b"X-SSL-Client-Verify, X-SSL-Client-Cert"):
        answer = server.get("/nginx/loopback", b"Connection: " + named, *CLAIM)
        assert (answer.certificate, answer.leaks) == (expected_report(GOOD), [])


PRESENTED_BY = {
    "nginx": [CERTIFICATE, FAILED],
    "haproxy": [CLAIMS["haproxy"](GOOD)[0], b"X-SSL-Client-Verify: 18"],
    "google": [CLAIMS["google"](GOOD)[0], b"X-Client-Cert-Chain-Verified: false"],
    "cloudflare": [CLAIMS["cloudflare"](GOOD)[0], b"Cf-Cert-Verified: false"],
    "cloudflare revoked": [*CLAIMS["cloudflare"](GOOD), b"Cf-Cert-Revoked: true"],
}


@pytest.mark.case("025", "061")
@pytest.mark.parametrize("kind", PRESENTED_BY)
def test_an_unverified_certificate_is_rejected_where_one_is_required(server: Server, kind: str) -> None:
    path = f"/{kind.split(maxsplit=1)[0]}/loopback"
    answer = server.get(path, *PRESENTED_BY[kind])
    assert (answer.certificate, answer.leaks) == (expected_report(GOOD) | {"verification": "PRESENTED"}, [])
    assert server.get(f"{path}/required", *PRESENTED_BY[kind]).refusal == REFUSED


@pytest.mark.case("029")
def test_a_certificate_without_a_verification_result_is_presented(server: Server) -> None:
    for source in ("unstated", "azure"):
        answer = server.get(f"/{source}/loopback", *CLAIMS[source](GOOD))
        assert (answer.certificate["verification"], answer.leaks) == ("PRESENTED", [])


# ---- folded lines

# nginx's deprecated $ssl_client_cert writes LF and TAB for each line's end; obs-fold of RFC 9112 5.2 begins with CR LF.
FOLDS = {"LF TAB": b"\n\t", "LF SP": b"\n ", "CRLF TAB": b"\r\n\t", "CRLF SP": b"\r\n ", "CR TAB": b"\r\t", "CR": b"\r"}
# Where the folded certificate is the certificate; everywhere else it is answered 400.
UNFOLDED = {
    "waitress": {"CRLF TAB", "CRLF SP"},
    "daphne": {"CRLF TAB", "CRLF SP"},
    "uvicorn-h11": {"CRLF TAB", "CRLF SP", "LF TAB", "LF SP"},
    "hypercorn": {"CRLF TAB", "CRLF SP", "LF TAB", "LF SP"},
    "werkzeug": {"CRLF TAB", "CRLF SP", "LF TAB", "LF SP", "CR TAB"},
}


def folded(client: IssuedCertificate, fold: bytes) -> bytes:
    return fold.join(client.pem.strip().encode().split(b"\n"))


@pytest.mark.case("038")
@pytest.mark.parametrize("fold", FOLDS)
def test_folded_pem_is_the_same_certificate_or_refused(server: Server, fold: str) -> None:
    value = b"X-SSL-Client-Cert: " + folded(GOOD, FOLDS[fold])
    answer = server.get("/nginx/loopback", value, SUCCESS)
    if fold in UNFOLDED.get(server.name, ()):
        assert (answer.certificate, answer.leaks) == (expected_report(GOOD), [])
    else:
        assert answer.status == 400
    for more in (folded(EVIL, FOLDS[fold]), CERTIFICATE, b"x"):
        assert server.get("/nginx/loopback", value + FOLDS[fold] + more, SUCCESS).status == 400


@pytest.mark.case("028", "038")
@pytest.mark.parametrize("fold", FOLDS)
def test_a_folded_word_never_becomes_the_word_of_success(server: Server, fold: str) -> None:
    assert server.get("/nginx/loopback", CERTIFICATE, NONE + FOLDS[fold] + b"SUCCESS").status == 400
    answer = server.get("/nginx/loopback", CERTIFICATE, FAILED + FOLDS[fold] + b"SUCCESS")
    assert answer.status == 400 or answer.certificate == expected_report(GOOD) | {"verification": "PRESENTED"}
    assert answer.leaks == []


# ---- chains


@pytest.mark.case("048")
@pytest.mark.standard("I5")
def test_a_chain_over_two_lines_is_one_chain_without_copies(server: Server) -> None:
    leaf = f"Client-Cert: {CHAINED.as_client_cert()['Client-Cert']}".encode()
    lines = [f"Client-Cert-Chain: {each}".encode() for each in CHAIN]
    answer = server.get("/rfc9440/loopback", leaf, *lines)
    assert (answer.certificate, answer.leaks) == (expected_report(CHAINED, chain=len(CHAIN)), [])
    one = f"Client-Cert-Chain: {', '.join(CHAIN[:1] * 17)}".encode()  # daphne accepts no head of more than 16 kB
    for spread in ([one], lines[:1] * 17):
        assert server.get("/rfc9440/loopback", leaf, *spread).certificate == expected_report(CHAINED, chain=1)


@pytest.mark.case("057")
def test_traefiks_list_begins_with_its_only_leaf(server: Server) -> None:
    path, name = "/traefik/loopback", "X-Forwarded-Tls-Client-Cert: "
    value = ",".join([base64(CHAINED), *(each.strip(":") for each in CHAIN)])
    answer = server.get(path, f"{name}{value}".encode())
    assert (answer.certificate, answer.leaks) == (expected_report(CHAINED, chain=len(CHAIN)), [])
    # gunicorn and ASGI servers show each line, so one line with a second leaf is Traefik's own.
    for leaf, joined in ((EVIL, f"{base64(EVIL)},{value}"), (CHAINED, f"{value},{base64(EVIL)}")):
        answer = server.get(path, f"{name}{joined}".encode())
        if server.name in (*ASGI, "gunicorn"):
            assert answer.certificate["thumbprint"] == leaf.thumbprint
        else:
            assert answer.refusal == MALFORMED
    assert server.get(path, f"{name}{value}\r\n{name}{base64(EVIL)}".encode()).refusal == MALFORMED
    for lines in ([base64(EVIL), value], [value, base64(EVIL)], [f"{base64(EVIL)},{CHAIN[0].strip(':')}", value]):
        assert server.get(path, *(f"{name}{each}".encode() for each in lines)).refusal == MALFORMED
