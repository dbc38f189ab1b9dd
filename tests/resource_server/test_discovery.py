"""Keys are found through the issuer's own document, which is renewed, and borne through outages."""

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest

from mtls_middleware import ConfigurationError, Refused
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.effects.remote_document import COOL_DOWN
from mtls_middleware.errors import Unavailable
from mtls_middleware.jwks import KeySet
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.resource_server.discovery import DiscoveredKeys
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from tests.jwks.key_sources import HOUR, NO_TLS, START
from tests.key_server import KeyServer, answer, die, until
from tests.resource_server.discovery import PATHS, ServedDocument
from tests.resource_server.stack import Stack

Run = Callable[..., Any]


def keys_of(site: ServedDocument) -> DiscoveredKeys:
    return DiscoveredKeys(site.issuer.issuer, site.discovery, allow_http=True, tls=NO_TLS)


def names(keys: KeySet) -> set[str | None]:
    return {each.key_id for each in keys.keys}


# --- how it is asked for ---


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ((), "no keys given"),
        (("jwks_uri", "jwks"), "jwks_uri= and jwks= given"),
        (("jwks", "discovery"), "jwks= and discovery= given"),
        (("jwks_uri", "discovery"), "jwks_uri= and discovery= given"),
        (("jwks_uri", "jwks", "discovery"), "jwks_uri= and jwks= and discovery= given"),
    ],
)
def test_keys_come_in_exactly_one_of_three_ways(given: tuple[str, ...], found: str) -> None:
    ways: dict[str, Any] = {"jwks_uri": "https://as.example/jwks", "jwks": {"keys": []}, "discovery": "rfc8414"}
    options = {name: ways[name] for name in given}
    with pytest.raises(ConfigurationError, match=f"^{found}; expected exactly one of jwks_uri=, jwks=, discovery="):
        JWTAccessTokens(issuer="https://as.example", audience="https://api.example", **options)


@pytest.mark.parametrize("discovery", ["", "oidc", "RFC8414", "rfc8414 ", True, 1, b"openid", ["openid"], {"openid"}])
def test_the_standard_is_named_by_one_of_two_words(discovery: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"discovery=.*expected 'rfc8414' .* or 'openid'"):
        JWTAccessTokens(issuer="https://as.example", audience="https://api.example", discovery=discovery)


@pytest.mark.standard("C10")
@pytest.mark.parametrize("discovery", PATHS)
@pytest.mark.parametrize(
    "issuer",
    [
        "http://as.example",
        "http://10.0.0.1",
        "ftp://as.example",
        "as.example",
        "https://",
        "https://as.example?tenant=1",
        "https://as.example/?",
        "https://as.example#keys",
        "https://as.example#",
        "https://user@as.example",
        "https://@as.example",
        "https://as.example:port",
        "https://as example",
        "https://b\u00fccher.example",
        "https://as.example/\n",
    ],
)
def test_an_issuer_without_https_is_not_discovered(discovery: Any, issuer: str) -> None:
    with pytest.raises(ConfigurationError, match="issuer="):
        JWTAccessTokens(issuer=issuer, audience="https://api.example", discovery=discovery, allow_http=True)
    with pytest.raises(ConfigurationError, match="issuer="):
        JWTAccessTokens(issuer="http://127.0.0.1", audience="https://api.example", discovery=discovery)


# --- what is asked, and believed ---


@pytest.mark.standard("C9")
def test_the_document_is_asked_once_and_then_the_keys_that_it_names(
    stack: type[Stack], site: ServedDocument, mtls_client: IssuedCertificate
) -> None:
    app = stack(site.tokens())
    assert site.server.asked == []
    for _ in range(3):
        text = site.issuer.token(certificate=mtls_client)
        assert app.request(f"Bearer {text}", certificate=mtls_client).status == 200
    assert site.server.asked == [site.path, "/jwks"]


def test_a_document_of_the_other_standard_is_not_used(
    stack: type[Stack], site: ServedDocument, mtls_client: IssuedCertificate
) -> None:
    for path in PATHS.values():
        site.server.documents[path] = site.server.documents[site.path]
    site.server.behaviours[site.path] = answer(404)
    outcome = stack(site.tokens()).request(f"Bearer {site.issuer.token()}", certificate=mtls_client)
    assert outcome.status == 503
    assert site.server.asked == [site.path]


def test_the_keys_may_be_on_another_host(site: ServedDocument, run: Run) -> None:
    with KeyServer(site.issuer.jwks) as elsewhere:
        site.publish(jwks_uri=elsewhere.url.replace("127.0.0.1", "localhost"))
        assert run(site.tokens().validate(site.issuer.token(), time.time())).subject == "user"
        assert (site.counts, elsewhere.requests) == ((1, 0), 1)


@pytest.mark.standard("C11", "C16")
def test_signed_metadata_and_unknown_members_are_not_read(site: ServedDocument, run: Run) -> None:
    attacker = TokenIssuer(site.issuer.issuer)
    with KeyServer(attacker.jwks) as elsewhere:
        claims = {"iss": site.issuer.issuer, "issuer": site.issuer.issuer, "jwks_uri": elsewhere.url}
        signed = jwt.encode(claims, "a secret of thirty-two octets ...", algorithm="HS256")
        aliases = {"jwks_uri": elsewhere.url}
        site.publish(signed_metadata=signed, mtls_endpoint_aliases=aliases, jwks=attacker.jwks, unknown=[{}, None])
        tokens = site.tokens()
        assert run(tokens.validate(site.issuer.token(), time.time())).subject == "user"
        with pytest.raises(Refused, match="invalid_token"):
            run(tokens.validate(attacker.token(), time.time()))
        assert elsewhere.requests == 0


@pytest.mark.standard("C10")
@pytest.mark.parametrize("discovery", PATHS)
def test_both_documents_come_over_https_from_a_server_that_is_verified(
    discovery: str, stack: type[Stack], mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate
) -> None:
    context = mtls_ca.server_context(mtls_ca.server(), client_certificates="optional")
    with KeyServer({"keys": []}, tls=context) as server:
        site = ServedDocument(server, discovery)
        authorization = f"Bearer {site.issuer.token(certificate=mtls_client)}"
        options: dict[str, Any] = {"ssl_context": mtls_ca.client_context(), "allow_http": False}
        trusting, wary = stack(site.tokens(**options)), stack(site.tokens(ssl_context=None, allow_http=False))
        assert trusting.request(authorization, certificate=mtls_client).status == 200
        assert wary.request(authorization, certificate=mtls_client).status == 503
        assert server.asked == [site.path, "/jwks"]
        site.publish(jwks_uri=server.url.replace("https:", "http:"))
        wary = stack(site.tokens(**options))
        assert wary.request(authorization, certificate=mtls_client).status == 503
        assert site.counts == (2, 1)


# --- renewed, and borne ---


def test_the_background_renews_the_document_and_keeps_equal_keys(site: ServedDocument) -> None:
    driver, keys = BlockingDriver(), keys_of(site)
    first = driver.run(keys.current(START))
    assert driver.run(keys.current(START + 479)) is first
    assert site.counts == (1, 1)
    assert driver.run(keys.current(START + 480)) is first  # begins both, and goes on
    until(lambda: site.counts == (2, 2))
    assert driver.run(keys.current(START + 600)) is first
    assert driver.run(keys.current(START + 1200)) is first


def test_keys_at_another_address_end_what_the_former_ones_signed(site: ServedDocument, run: Run) -> None:
    tokens, now = site.tokens(), time.time()
    old = site.issuer.token(lifetime=timedelta(hours=1))
    assert run(tokens.validate(old, now))
    site.issuer.rotate()
    site.issuer.retire()
    new = site.issuer.token(lifetime=timedelta(hours=1))
    with KeyServer(site.issuer.jwks) as elsewhere:
        site.publish(jwks_uri=elsewhere.url)
        site.server.behaviours["/jwks"] = answer(410)
        assert run(tokens.validate(new, now + 600)).subject == "user"
        with pytest.raises(Refused, match="invalid_token"):  # remembered as good until now
            run(tokens.validate(old, now + 601))
        assert (site.counts, elsewhere.requests) == ((2, 1), 1)


def test_former_keys_serve_for_an_hour_if_the_new_address_fails(site: ServedDocument, run: Run) -> None:
    keys = keys_of(site)
    first = run(keys.current(START))
    with KeyServer(site.issuer.jwks) as elsewhere:
        elsewhere.behaviour = die
        site.publish(jwks_uri=elsewhere.url)
        for late in (600, 660, HOUR - 1):
            assert run(keys.current(START + late)) is first
        with pytest.raises(Unavailable):
            run(keys.current(START + HOUR))
        assert elsewhere.requests == 3
        site.issuer.rotate()
        elsewhere.jwks, elsewhere.behaviour = site.issuer.jwks, None
        assert names(run(keys.current(START + HOUR + COOL_DOWN))) == names(KeySet.parse(site.issuer.jwks))
        assert site.counts[1] == 1


def test_keys_of_the_former_address_are_not_used_for_the_new_one(site: ServedDocument) -> None:
    """Both were asked ahead of time; the answer of the former comes when the document already names the new one."""
    driver, keys = BlockingDriver(), keys_of(site)
    first = driver.run(keys.current(START))
    former = site.issuer.jwks
    site.issuer.rotate()
    site.issuer.retire()
    with KeyServer(site.issuer.jwks) as elsewhere:
        elsewhere.behaviour = die
        site.publish(jwks_uri=elsewhere.url)
        site.server.jwks = former
        driver.run(keys.current(START + 480))
        until(lambda: site.counts == (2, 2))
        until(lambda: driver.run(keys.current(START + 481)) is first and elsewhere.requests == 1)
        assert driver.run(keys.current(START + HOUR - 1)) is first
        elsewhere.behaviour = None
        assert names(driver.run(keys.current(START + HOUR + COOL_DOWN))) == names(KeySet.parse(site.issuer.jwks))


@pytest.mark.case("130")
@pytest.mark.standard("C10")
@pytest.mark.parametrize("address", ["http://as.example/jwks", "https://user@as.example/jwks", "/jwks", "", None, 1])
def test_a_document_that_turns_to_an_address_that_is_none_changes_nothing(
    address: Any, site: ServedDocument, run: Run
) -> None:
    keys = keys_of(site)
    first = run(keys.current(START))
    site.publish(jwks_uri=address)
    assert run(keys.current(START + 600)) is first
    assert site.counts == (2, 2)  # the keys from where they were, and they are fresh
    with pytest.raises(Unavailable):
        run(keys.current(START + 600 + HOUR))


def test_without_its_document_an_issuer_is_borne_for_an_hour(site: ServedDocument, run: Run) -> None:
    keys = keys_of(site)
    first = run(keys.current(START))
    site.server.behaviours[site.path] = die
    for late in (600, 629, 630, 600 + HOUR - 1):
        assert run(keys.current(START + late)) is first
    with pytest.raises(Unavailable) as refusal:
        run(keys.current(START + 600 + HOUR))
    assert 1 <= refusal.value.retry_after <= COOL_DOWN
    del site.server.behaviours[site.path]
    assert run(keys.current(START + 600 + HOUR + COOL_DOWN)) is first


@pytest.mark.case("127")
def test_unknown_key_ids_fetch_keys_once_per_cool_down(site: ServedDocument, run: Run) -> None:
    keys = keys_of(site)
    run(keys.current(START))
    for second in range(121):
        run(keys.refreshed(START + second, str(second)))
    assert site.counts == (1, 1 + 120 // int(COOL_DOWN))


@pytest.mark.case("130")
def test_a_document_that_turns_to_another_issuer_changes_nothing(site: ServedDocument, run: Run) -> None:
    keys = keys_of(site)
    first = run(keys.current(START))
    with KeyServer(TokenIssuer().jwks) as elsewhere:
        site.publish(issuer="https://other.example", jwks_uri=elsewhere.url)
        for late in (600, 1200, 600 + HOUR - 1):
            assert run(keys.current(START + late)) is first
        with pytest.raises(Unavailable):
            run(keys.current(START + 600 + HOUR))
        assert elsewhere.requests == 0


def test_the_document_is_json_and_nothing_else_is_taken_for_it(site: ServedDocument, run: Run) -> None:
    for body in (json.dumps(site.server.documents[site.path]).encode()[:-1], b'"https://as.example"', b"{}"):
        site.server.documents[site.path] = body
        with pytest.raises(Unavailable):
            run(keys_of(site).current(START))
    assert site.counts == (3, 0)
