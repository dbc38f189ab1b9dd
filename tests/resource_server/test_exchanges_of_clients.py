"""Introspection only if its outcome can matter, and no client that uses up the exchanges of the others."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509

from mtls_middleware.certificate import Verification
from mtls_middleware.effects.limits import ConcurrencyLimit, Share, shares
from mtls_middleware.resource_server import IntrospectedAccessTokens, MemoryAnswers, TrustedIssuers
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from tests.introspection_server import IntrospectionServer
from tests.key_server import KeyServer
from tests.resource_server import forge
from tests.resource_server.introspection import BEARER, TOKEN, active, asking
from tests.resource_server.stack import ASGIStack, Stack

CASES: dict[str, tuple[Callable[[IntrospectedAccessTokens], Any], dict[str, Any], dict[str, Any]]] = {
    "binding required": (lambda tokens: tokens, {}, {}),
    "remembered answers": (lambda tokens: tokens, {"cache": MemoryAnswers()}, {}),
    "profile": (lambda tokens: tokens, {"profile": "fapi2"}, {"binding": "when_present"}),
    "cnf required": (lambda tokens: tokens, {"required_claims": ["cnf"]}, {"binding": "when_present"}),
    "several issuers": (lambda tokens: TrustedIssuers([tokens]), {"profile": "fapi2"}, {"binding": "when_present"}),
    "one issuer of several": (
        lambda tokens: TrustedIssuers([forge.access_tokens(), tokens]),
        {"profile": "fapi2"},
        {"binding": "when_present"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bound_token_without_certificate_causes_no_introspection(
    case: str, server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    wrap, options, layer = CASES[case]
    server.tokens = {TOKEN: active(mtls_client)}
    layers = stack(wrap(asking(server, **options)), **layer)
    for token in (BEARER, "Bearer unknown", "Bearer a.b.c"):
        found = layers.request(token)
        assert (found.status, found.error, found.reached) == (401, "invalid_token", False)
    assert server.questions == []
    assert layers.request(BEARER, certificate=mtls_client).status == 200


def test_a_bound_token_without_certificate_causes_no_key_fetch(
    stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    issuer = TokenIssuer()
    with KeyServer(issuer.jwks) as server:
        layers = stack(issuer.access_tokens(jwks_uri=server.url, jwks=None, allow_http=True))
        assert layers.request(f"Bearer {issuer.token(certificate=mtls_client)}").status == 401
        assert server.requests == 0
        assert layers.request(f"Bearer {issuer.token(certificate=mtls_client)}", certificate=mtls_client).status == 200


def test_a_bound_issuers_token_without_certificate_causes_no_key_fetch(
    server: IntrospectionServer, stack: type[Stack]
) -> None:
    server.tokens = {TOKEN: active()}
    issuer = TokenIssuer()
    with KeyServer(issuer.jwks) as keys:
        bound = issuer.access_tokens(jwks_uri=keys.url, jwks=None, allow_http=True, profile="fapi2")
        layers = stack(TrustedIssuers([bound, asking(server, issuer=None)]), binding="when_present")
        assert layers.request(f"Bearer {issuer.token()}").status == 401
        assert keys.requests == 0
        assert layers.request(BEARER).status == 200  # the other member accepts unbound tokens


RULED_OUT: dict[str, str] = {
    "no JWT": "x",
    "no header": "e30.e30.AA",
    "ID token": forge.token({**forge.HEADER, "typ": "JWT"}),
    "not signed": forge.token({**forge.HEADER, "alg": "none"}),
    "expired": forge.token(payload=forge.claims(exp=1)),
    "not yet valid": forge.token(payload=forge.claims(nbf=4e9)),
    "another issuer": forge.token(payload=forge.claims(iss="https://other.test")),
    "another audience": forge.token(payload=forge.claims(aud="https://other.test")),
    "no jti": forge.token(payload=forge.claims(jti=1)),
}


@pytest.mark.parametrize("token", RULED_OUT)
@pytest.mark.parametrize("fetched", ["jwks_uri", "discovery"])
def test_no_key_is_fetched_for_a_token_that_no_key_makes_acceptable(
    fetched: str, token: str, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    with KeyServer(forge.JWKS) as server:
        server.documents["/.well-known/oauth-authorization-server"] = {"issuer": server.host, "jwks_uri": server.url}
        issuer = server.host if fetched == "discovery" else forge.ISSUER
        keys = {"discovery": "rfc8414"} if fetched == "discovery" else {"jwks_uri": server.url}
        tokens = forge.access_tokens(jwks=None, allow_http=True, issuer=issuer, **keys)
        layers = stack(tokens)
        assert layers.request(f"Bearer {RULED_OUT[token]}", certificate=mtls_client).error == "invalid_token"
        assert server.requests == 0
        good = forge.claims(iss=issuer, cnf={"x5t#S256": mtls_client.thumbprint})
        assert layers.request(f"Bearer {forge.token(payload=good)}", certificate=mtls_client).status == 200


def test_a_token_that_may_be_unbound_is_asked_about_without_certificate(
    server: IntrospectionServer, stack: type[Stack]
) -> None:
    server.tokens = {TOKEN: active()}
    assert stack(asking(server), binding="when_present").request(BEARER).status == 200


# --- Shares


def test_one_client_leaves_the_exchanges_of_the_others_alone(
    server: IntrospectionServer, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    server.tokens = {TOKEN: active(mtls_client)}
    layers = ASGIStack(asking(server, timeout=30))

    async def flood_and_good() -> tuple[int, int]:
        server.stall = 60
        flood = [
            asyncio.ensure_future(layers.asked(f"Bearer x{number}", certificate=mtls_other_client))
            for number in range(200)
        ]
        while len(server.questions) < 10:  # noqa: ASYNC110 (of a server in another thread)
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        asked, server.stall = len(server.questions), 0
        good = await layers.asked(BEARER, certificate=mtls_client)
        assert not any(each.done() for each in flood)
        for each in flood:
            each.cancel()
        return asked, good.status

    assert asyncio.run(flood_and_good()) == (10, 200)


AUTHORITY = CertificateAuthority()


def client(verification: Verification = Verification.BY_PROXY) -> Any:
    return AUTHORITY.issue("CN=x").client_certificate(verification)


def unreadable() -> Any:
    odd = x509.SubjectAlternativeName([x509.DNSName._init_without_validation("a\0b")])
    return AUTHORITY.issue("CN=x", extensions=[(odd, False)]).client_certificate()


VERIFIED, PRESENTED = client(), client(Verification.PRESENTED)
ATTACKERS: dict[str, tuple[Callable[[int], Any], int]] = {
    "one verified certificate": (lambda _: shares(VERIFIED, None), 10),
    "one presented certificate": (lambda _: shares(PRESENTED, None), 10),
    "many presented certificates": (lambda _: shares(client(Verification.PRESENTED), "192.0.2.7"), 20),
    "many of many addresses": (lambda number: shares(client(Verification.PRESENTED), f"192.0.2.{number}"), 25),
    "many verified certificates of one name": (lambda _: shares(client(), None), 25),
    "many of one name that cannot be read": (lambda _: shares(unreadable(), None), 25),
    "one address": (lambda _: shares(None, "192.0.2.7"), 20),
    "many addresses": (lambda number: shares(None, f"192.0.2.{number}"), 25),
    "no address": (lambda _: shares(None, None), 20),
}


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_the_turns_of_an_attacker_are_bounded_and_the_others_get_theirs(attacker: str) -> None:
    of, most = ATTACKERS[attacker]

    async def all_at_once() -> int:
        turns, running, released = ConcurrencyLimit(50), 0, asyncio.Event()

        async def single_exchange(number: int) -> None:
            nonlocal running
            async with turns.slot(of(number), 30):
                running += 1
                await released.wait()

        flood = [asyncio.ensure_future(single_exchange(number)) for number in range(100)]
        await asyncio.sleep(0.05)
        good_client = AUTHORITY.issue("CN=good").client_certificate()
        for good in (shares(good_client, None), ()):
            async with turns.slot(good, 0.5):
                pass
        found = running
        released.set()
        await asyncio.gather(*flood)
        assert turns._shares == {}
        return found

    assert asyncio.run(all_at_once()) == most


def test_an_exchange_that_is_given_up_gives_its_turns_back() -> None:
    async def single_exchange() -> None:
        turns, share = ConcurrencyLimit(1), (Share("a", 1),)
        async with turns.slot(share, 1):
            waiting = [asyncio.ensure_future(turns.slot(share, 30).__aenter__()) for _ in range(3)]
            with pytest.raises(TimeoutError):
                await turns.slot((), 0.01).__aenter__()
            with pytest.raises(TimeoutError):
                await turns.slot(share, 0.01).__aenter__()
            await asyncio.sleep(0)
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        assert turns._shares == {}
        async with turns.slot(share, 0.5):
            pass

    asyncio.run(single_exchange())
