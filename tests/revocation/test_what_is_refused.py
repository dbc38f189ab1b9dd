"""Tokens and certificates that were revoked, through both gateways and a real Redis."""

import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from mtls_middleware import Verification
from mtls_middleware.policy import Presented, SpiffeTrustDomain, Subject, Thumbprint
from mtls_middleware.resource_server import IntrospectedAccessTokens, TrustedIssuers
from mtls_middleware.revocation import RevocableTokens
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import Outcome, Request, both_gateways, send
from tests.introspection_server import CLIENT_ID, CLIENT_SECRET, IntrospectionServer
from tests.key_server import until
from tests.redis_server import RedisServer
from tests.resource_server import forge
from tests.resource_server.stack import Stack
from tests.revocation.lists import AUTHORITY, BILLING, SOON, following, new_list


@pytest.mark.standard("O2")
def test_a_revoked_token_is_refused_and_another_of_the_same_client_is_not(
    stack: type[Stack], redis_server: RedisServer, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    revocations = new_list(redis_server)
    layers = stack(RevocableTokens(mtls_issuer.access_tokens(), revocations))
    one, two = (mtls_issuer.token(certificate=mtls_client, claims={"jti": each}) for each in ("one", "two"))

    def ask(text: str) -> Outcome:
        return layers.request(f"Bearer {text}", certificate=mtls_client)

    assert [ask(one).status, ask(two).status] == [200, 200]
    revocations.revoke(token_id="one", issuer=mtls_issuer.issuer, until=SOON)
    until(lambda: ask(one).status == 401)  # a token that was remembered as good
    assert (ask(one).error, ask(two).status) == ("invalid_token", 200)


def test_spare_bits_do_not_hide_a_token_of_a_revoked_certificate(
    stack: type[Stack], redis_server: RedisServer, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    revocations = new_list(redis_server)
    layers = stack(RevocableTokens(forge.access_tokens(), revocations))
    canonical = mtls_client.thumbprint
    other = canonical[:-1] + chr(ord(canonical[-1]) + 1)
    texts = [forge.token(payload=forge.claims(cnf={"x5t#S256": each})) for each in (canonical, other)]
    unharmed = forge.token(payload=forge.claims(cnf={"x5t#S256": mtls_other_client.thumbprint}))

    def statuses() -> list[int]:
        return [layers.request(f"Bearer {each}", certificate=mtls_client).status for each in texts]

    assert statuses() == [200, 200]
    revocations.revoke(thumbprint=other, until=SOON)
    until(lambda: statuses() == [401, 401])
    assert layers.request(f"Bearer {unharmed}", certificate=mtls_other_client).status == 200


def test_a_token_id_is_one_of_its_issuer_alone(
    stack: type[Stack], redis_server: RedisServer, mtls_client: IssuedCertificate
) -> None:
    a, b = TokenIssuer("https://a.test"), TokenIssuer("https://b.test")
    revocations = new_list(redis_server)
    layers = stack(RevocableTokens(TrustedIssuers([a.access_tokens(), b.access_tokens()]), revocations))

    def status(issuer: TokenIssuer) -> int:
        text = issuer.token(certificate=mtls_client, claims={"jti": "1"})
        return layers.request(f"Bearer {text}", certificate=mtls_client).status

    revocations.revoke(token_id="1", issuer="https://a.test", until=SOON)
    until(lambda: status(a) == 401)
    assert status(b) == 200


@pytest.mark.parametrize(
    "case",
    [
        ({"jti": None}, "required", 401),
        ({"jti": ""}, "required", 401),
        ({"jti": None}, "when_present", 200),
        ({"jti": "7", "iss": None}, "required", 401),
        ({"jti": "7", "iss": None}, "when_present", 401),
        ({"jti": "7", "iss": ["https://as.test"]}, "when_present", 401),
        ({"jti": "7", "iss": 7}, "required", 401),
        ({"jti": "7"}, "required", 200),
    ],
)
def test_an_irrevocable_token_is_rejected_by_default(
    stack: type[Stack], redis_server: RedisServer, mtls_client: IssuedCertificate, case: tuple[Any, Any, int]
) -> None:
    claims, ids, status = case
    whole = {"active": True, "iss": "https://as.test", "cnf": {"x5t#S256": mtls_client.thumbprint}, **claims}
    with IntrospectionServer() as server:
        server.tokens = {"text": {name: value for name, value in whole.items() if value is not None}}
        asking = IntrospectedAccessTokens(
            endpoint=server.url, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, allow_http=True
        )
        outcome = stack(RevocableTokens(asking, new_list(redis_server), ids=ids)).request(
            "Bearer text", certificate=mtls_client
        )
    assert (outcome.status, outcome.reached) == (status, status == 200)


def test_an_introspected_token_without_iss_has_the_configured_issuer(
    stack: type[Stack], redis_server: RedisServer, mtls_client: IssuedCertificate
) -> None:
    revocations = new_list(redis_server)
    with IntrospectionServer() as server:
        server.tokens = {"text": {"active": True, "jti": "7", "cnf": {"x5t#S256": mtls_client.thumbprint}}}
        asking = IntrospectedAccessTokens(
            endpoint=server.url,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            issuer="https://as.test",
            allow_http=True,
        )
        layers = stack(RevocableTokens(asking, revocations))
        assert layers.request("Bearer text", certificate=mtls_client).status == 200
        revocations.revoke(token_id="7", issuer="https://as.test", until=SOON)
        until(lambda: layers.request("Bearer text", certificate=mtls_client).status == 401)


@pytest.mark.parametrize("cnf", [None, {}, [], "x", {"x5t#S256": 7}, {"x5t#S256": "A" * 44}, {"jkt": "A" * 43}])
def test_a_confirmation_that_cannot_be_looked_up_never_passes(
    stack: type[Stack], redis_server: RedisServer, mtls_client: IssuedCertificate, cnf: Any
) -> None:
    layers = stack(RevocableTokens(forge.access_tokens(), new_list(redis_server)), binding="when_present")
    outcome = layers.request(f"Bearer {forge.token(payload=forge.claims(cnf=cnf))}", certificate=mtls_client)
    assert (outcome.status, outcome.error, outcome.reached) == (401, "invalid_token", False)


def test_a_token_stays_revoked_as_long_as_any_leeway_accepts_it(
    stack: type[Stack], redis_server: RedisServer, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    """Revoked until its `exp`, and read a second after it, with 60 s of leeway: the entry is there still."""
    ends = int(time.time()) - 1
    revocations = new_list(redis_server)
    revocations.revoke(token_id="1", issuer=mtls_issuer.issuer, until=datetime.fromtimestamp(ends, UTC))
    text = mtls_issuer.token(certificate=mtls_client, claims={"jti": "1", "exp": ends})
    tokens = mtls_issuer.access_tokens(leeway=60)
    assert stack(tokens).request(f"Bearer {text}", certificate=mtls_client).status == 200
    layers = stack(RevocableTokens(tokens, revocations))
    until(lambda: layers.request(f"Bearer {text}", certificate=mtls_client).error == "invalid_token")


# --- certificates ---


@pytest.mark.parametrize("rule", ["alone", "joined", "joined before", "of a path"])
@both_gateways
def test_a_revoked_certificate_is_refused_by_the_rule(redis_server: RedisServer, gateway: str, rule: str) -> None:
    revocations = new_list(redis_server)
    domain = SpiffeTrustDomain("acme.internal")
    allow = {
        "alone": revocations.not_revoked,
        "joined": domain & revocations.not_revoked,
        "joined before": revocations.not_revoked & domain,
        "of a path": {"/": domain & revocations.not_revoked, "/admin": Subject("CN=ops")},
    }[rule]

    def status(certificate: IssuedCertificate, *, verified: bool = True) -> int:
        request = Request(tls=certificate, verified=verified)
        return send(gateway, lambda module, app: module.protect(app, source=ServerTLS(), allow=allow), request).status

    other = AUTHORITY.issue("CN=other", uris=["spiffe://acme.internal/other"])
    assert [status(BILLING), status(other), status(BILLING, verified=False)] == [200, 200, 403]
    revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
    until(lambda: status(BILLING) == 403)
    assert status(other) == 200


WAYS = {
    "alone": lambda asked, _: asked,
    "not": lambda asked, _: ~asked,
    "not not": lambda asked, _: ~~asked,
    "and": lambda asked, yes: yes & asked,
    "or": lambda asked, yes: ~yes | asked,
    "or before": lambda asked, yes: asked | ~yes,
    "not and": lambda asked, yes: ~(yes & asked),
    "presented": lambda asked, _: Presented(asked),
    "function": lambda asked, _: asked.holds,
}


@pytest.mark.parametrize("way", WAYS)
@both_gateways
def test_what_cannot_be_known_is_503_whatever_the_operators_around_it(
    redis_server: RedisServer, gateway: str, way: str
) -> None:
    allow = WAYS[way](following(redis_server).not_revoked, SpiffeTrustDomain("acme.internal"))
    result = send(
        gateway, lambda module, app: module.protect(app, source=ServerTLS(), allow=allow), Request(tls=BILLING)
    )
    assert (result.status, result.seen, result.header("Retry-After")) == (503, None, "1")


@both_gateways
def test_what_cannot_be_known_affects_no_alternative(redis_server: RedisServer, gateway: str) -> None:
    asked, yes = following(redis_server).not_revoked, SpiffeTrustDomain("acme.internal")
    for allow in (asked | yes, yes | asked):
        wrap = partial(_protected, allow=allow)
        assert send(gateway, wrap, Request(tls=BILLING)).status == 200


def _protected(module: Any, app: Any, *, allow: Any) -> Any:
    return module.protect(app, source=ServerTLS(), allow=allow)


@both_gateways
def test_an_exempt_path_passes_without_an_uncheckable_certificate(redis_server: RedisServer, gateway: str) -> None:
    options = {"source": ServerTLS(), "allow": following(redis_server).not_revoked, "exempt": ["/health"]}
    result = send(gateway, lambda module, app: module.protect(app, **options), Request(path="/health", tls=BILLING))
    assert result.application.certificate is None


def test_not_revoked_alone_does_not_accept_a_presented_certificate(
    redis_server: RedisServer,
) -> None:
    revocations = new_list(redis_server)
    presented = BILLING.client_certificate(Verification.PRESENTED)
    known = Thumbprint(BILLING.thumbprint)
    assert not revocations.not_revoked.holds(presented)
    assert not (~revocations.not_revoked).holds(presented)
    assert not (known & revocations.not_revoked).holds(presented)
    assert (known & Presented(revocations.not_revoked)).holds(presented)
    revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
    until(lambda: not (known & Presented(revocations.not_revoked)).holds(presented))
