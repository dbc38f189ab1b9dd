"""Documents that lie, are broken or never end: try later, never yes, and nothing that they say is followed."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtls_middleware.effects.remote_document import COOL_DOWN
from mtls_middleware.resource_server.discovery import DiscoveredKeys
from mtls_middleware.retry import retry_delay
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from mtls_middleware.testing.tokens import OMIT
from tests.gateways import Outcome
from tests.jwks.key_sources import NO_TLS
from tests.jwks.misbehaviour import DRIPS, MISBEHAVIOUR
from tests.key_server import KeyServer, answer
from tests.loopback import Behaviour
from tests.resource_server.discovery import ServedDocument
from tests.resource_server.stack import Stack


def outcome_of(stack: type[Stack], site: ServedDocument, certificate: IssuedCertificate, **options: Any) -> Outcome:
    text = site.issuer.token(certificate=certificate)
    return stack(site.tokens(**options)).request(f"Bearer {text}", certificate=certificate)


def try_later(outcome: Outcome) -> bool:
    assert 1 <= int(outcome.header("Retry-After") or 0) <= COOL_DOWN
    return (outcome.status, outcome.challenge, outcome.reached) == (503, None, False)


OTHERS: dict[str, Callable[[str], Any]] = {
    "trailing slash": lambda issuer: issuer + "/",
    "without its path": lambda issuer: issuer.removesuffix("/tenant"),
    "case of the scheme": lambda issuer: issuer.replace("http", "HTTP"),
    "case of the path": lambda issuer: issuer.replace("tenant", "Tenant"),
    "percent-encoded": lambda issuer: issuer.replace("tenant", "%74enant"),
    "dot segment": lambda issuer: issuer.replace("/tenant", "/./tenant"),
    "another name of the host": lambda issuer: issuer.replace("127.0.0.1", "localhost"),
    "letter that looks alike": lambda issuer: issuer.replace("e", "\u0435"),
    "full-width": lambda issuer: issuer.replace("t", "\uff54"),
    "zero-width": lambda issuer: issuer + "\u200b",
    "blank": lambda issuer: f" {issuer}",
    "NUL": lambda issuer: f"{issuer}\0",
    "template": lambda issuer: issuer.replace("tenant", "{tenant}"),
    "other": lambda issuer: "https://attacker.example",
    "empty": lambda issuer: "",
    "list": lambda issuer: [issuer],
    "object": lambda issuer: {issuer: issuer},
    "number": lambda issuer: 1,
    "true": lambda issuer: True,
    "null": lambda issuer: None,
    "absent": lambda issuer: OMIT,
}


@pytest.mark.case("130")
@pytest.mark.standard("C9")
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_document_of_another_issuer_is_rejected(
    other: Callable[[str], Any],
    stack: type[Stack],
    site: ServedDocument,
    mtls_client: IssuedCertificate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    site.publish(issuer=other(site.issuer.issuer))
    assert try_later(outcome_of(stack, site, mtls_client))
    assert site.server.asked == [site.path]  # the address in it is not even looked at
    assert f"expected exactly {site.issuer.issuer!r}, the value of issuer=" in caplog.text


@pytest.mark.case("130")
def test_what_a_server_said_is_cut_short_and_forges_no_line_of_the_log(
    stack: type[Stack], site: ServedDocument, mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    site.publish(issuer="https://x\r\nERROR forged \x1b[2J\u2028\ud800" + "x" * 100_000)
    assert try_later(outcome_of(stack, site, mtls_client))
    (line,) = [each.getMessage() for each in caplog.records if each.name == "mtls_middleware.remote_documents"]
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 500


@pytest.mark.standard("C10")
@pytest.mark.parametrize(
    "address",
    [
        "http://as.example/jwks",
        "http://10.0.0.1/jwks",
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1.attacker.test/jwks",
        "file:///etc/passwd",
        "data:application/json,{}",
        "/jwks",
        "//as.example/jwks",
        "jwks",
        "",
        "https://",
        "https://user:password@as.example/jwks",
        "https://@as.example/jwks",
        "https://as.example/jwks#",
        "https://as.example/jwks#key",
        "https://as.example/jwks\r\nHost: other",
        "https://as.example/\u2028",
        "https://as.example:99999/jwks",
        "https://as.example/" + "x" * 3000,
        ["https://as.example/jwks"],
        {"uri": "https://as.example/jwks"},
        1,
        None,
        OMIT,
    ],
    ids=lambda address: ascii(address)[:40],
)
def test_a_document_with_a_forbidden_jwks_uri_is_rejected(
    address: Any,
    stack: type[Stack],
    site: ServedDocument,
    mtls_client: IssuedCertificate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    site.publish(jwks_uri=address)
    assert try_later(outcome_of(stack, site, mtls_client))
    assert site.server.asked == [site.path]
    assert "jwks_uri" in caplog.text
    assert not isinstance(address, str) or len(address) < 9 or address not in caplog.text


@pytest.mark.case("130")
@pytest.mark.parametrize("behaviour", MISBEHAVIOUR.values(), ids=MISBEHAVIOUR)
def test_a_broken_server_of_the_document_means_try_later_and_never_yes(
    behaviour: Behaviour, stack: type[Stack], site: ServedDocument, mtls_client: IssuedCertificate
) -> None:
    site.server.behaviours[site.path] = behaviour
    app, text = stack(site.tokens()), site.issuer.token(certificate=mtls_client)
    begun = time.monotonic()
    for _ in range(2):
        assert try_later(app.request(f"Bearer {text}", certificate=mtls_client))
    assert set(site.server.asked) == {site.path}
    # On a slow machine, the second request causes the next attempt.
    assert len(site.server.asked) <= 1 + (time.monotonic() - begun) / retry_delay(1)


@pytest.mark.parametrize("behaviour", DRIPS.values(), ids=DRIPS)
def test_the_whole_document_has_to_be_there_in_time(
    behaviour: Behaviour,
    stack: type[Stack],
    site: ServedDocument,
    mtls_client: IssuedCertificate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mtls_middleware.effects.remote_document._TIMEOUT", 1.5)
    site.server.behaviours[site.path] = behaviour
    assert try_later(outcome_of(stack, site, mtls_client))
    assert site.server.asked == [site.path]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("which", ["document", "keys"])
def test_redirects_are_not_followed(
    status: int, which: str, stack: type[Stack], site: ServedDocument, mtls_client: IssuedCertificate
) -> None:
    with KeyServer(site.issuer.jwks) as elsewhere:
        elsewhere.documents[site.path] = site.server.documents[site.path]
        path = site.path if which == "document" else "/jwks"
        site.server.behaviours[path] = answer(status, Location=f"{elsewhere.host}{path}")
        assert try_later(outcome_of(stack, site, mtls_client))
        assert elsewhere.requests == 0


@pytest.mark.parametrize("member", ["issuer", "jwks_uri"])
def test_a_member_that_is_there_twice_is_not_chosen_from(
    member: str, stack: type[Stack], site: ServedDocument, mtls_client: IssuedCertificate
) -> None:
    usual = json.dumps(site.server.documents[site.path])
    site.server.documents[site.path] = f'{{"{member}": "https://attacker.example/", {usual[1:]}'.encode()
    assert try_later(outcome_of(stack, site, mtls_client))
    assert site.server.asked == [site.path]


def test_a_document_is_no_key_set_and_a_key_set_no_document(
    stack: type[Stack], site: ServedDocument, mtls_client: IssuedCertificate
) -> None:
    both = {"issuer": site.issuer.issuer, **site.issuer.jwks}
    site.server.documents[site.path] = both
    assert try_later(outcome_of(stack, site, mtls_client))
    site.publish(jwks_uri=f"{site.server.host}{site.path}")
    assert try_later(outcome_of(stack, site, mtls_client))


def test_an_issuer_that_names_the_keys_of_another_speaks_for_itself_alone(
    stack: type[Stack], site: ServedDocument, mtls_client: IssuedCertificate
) -> None:
    victim = TokenIssuer("https://victim.example")
    site.publish()
    site.server.jwks = {"keys": [*site.issuer.jwks["keys"], *victim.jwks["keys"]]}
    app = stack(site.tokens())
    for signer in (victim, site.issuer):
        text = signer.token(certificate=mtls_client, claims={"iss": victim.issuer})
        assert app.request(f"Bearer {text}", certificate=mtls_client).error == "invalid_token"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ISSUER = "https://as.example"


@settings(max_examples=200)
@given(
    st.binary()
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda issuer, uri: json.dumps({"issuer": issuer, "jwks_uri": uri}).encode(),
        st.just(ISSUER) | JSON,
        st.text().map(lambda rest: f"https://{rest}") | JSON,
    )
)
def test_no_document_of_any_kind_is_more_than_a_value_error(text: bytes) -> None:
    keys = DiscoveredKeys(ISSUER, "openid", allow_http=False, tls=NO_TLS)
    try:
        found = keys._read(text)
    except ValueError:
        return
    assert found.uri.startswith(("https://", "HTTPS://"))
