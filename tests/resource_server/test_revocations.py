"""Tokens and certificates that were revoked, through both gateways and a real Redis; and what happens without it."""

import gc
import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
import redis.asyncio

from mtls_middleware import ConfigurationError, Verification
from mtls_middleware.errors import Unavailable
from mtls_middleware.policy import Presented, SpiffeTrustDomain, Subject, Thumbprint
from mtls_middleware.resource_server import (
    IntrospectedAccessTokens,
    RedisRevocations,
    RevocableTokens,
    TrustedIssuers,
    follower,
)
from mtls_middleware.resource_server.follower import Follower
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from tests.gateways import Request, both_gateways, send
from tests.introspection_server import CLIENT_ID, CLIENT_SECRET, IntrospectionServer
from tests.key_server import until
from tests.live.servers import ROOT
from tests.redis_server import RedisServer
from tests.resource_server import forge
from tests.resource_server.stack import Outcome, Stack

PAGE = (ROOT / "docs" / "tokens.md").read_text("utf-8")
KEY = "mtls_middleware:revoked"
AUTHORITY = CertificateAuthority()
BILLING = AUTHORITY.issue("CN=billing", uris=["spiffe://acme.internal/billing"])
SOON = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    with RedisServer() as found:
        yield found


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    with shared_redis.client() as client:
        client.flushall()
    return shared_redis


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as found:
        yield found


def following(server: RedisServer, **options: Any) -> RedisRevocations:
    """As a process that has just started: nothing is read yet."""
    return RedisRevocations(server.client(socket_timeout=1, socket_connect_timeout=1), **options)


def made(server: RedisServer, **options: Any) -> RedisRevocations:
    """With a list, and the list read."""
    found = following(server, **options)
    found.create()
    until(lambda: includes(found, BILLING) is False, seconds=20)
    return found


def includes(revocations: RedisRevocations, certificate: IssuedCertificate) -> bool | str:
    """Whether the certificate is on the list, as a rule sees it; "503" where that cannot be known."""
    verified = certificate.client_certificate(Verification.BY_SERVER)
    try:
        return not revocations.not_revoked.holds(verified)
    except Unavailable:
        return "503"


# --- tokens ---


@pytest.mark.standard("O2")
def test_a_revoked_token_is_refused_and_another_of_the_same_client_is_not(
    stack: type[Stack], redis_server: RedisServer, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    revocations = made(redis_server)
    layers = stack(RevocableTokens(mtls_issuer.access_tokens(), revocations))
    one, two = (mtls_issuer.token(certificate=mtls_client, claims={"jti": each}) for each in ("one", "two"))

    def ask(text: str) -> Outcome:
        return layers.request(f"Bearer {text}", certificate=mtls_client)

    assert [ask(one).status, ask(two).status] == [200, 200]
    revocations.revoke(token_id="one", issuer=mtls_issuer.issuer, until=SOON)
    until(lambda: ask(one).status == 401)  # a token that was remembered as good
    assert (ask(one).error, ask(two).status) == ("invalid_token", 200)


def test_a_token_bound_to_a_revoked_certificate_is_refused_whatever_its_spare_bits(
    stack: type[Stack], redis_server: RedisServer, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    revocations = made(redis_server)
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
    revocations = made(redis_server)
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
def test_a_token_that_nobody_could_revoke_is_refused_unless_that_is_wanted(
    stack: type[Stack], redis_server: RedisServer, mtls_client: IssuedCertificate, case: tuple[Any, Any, int]
) -> None:
    claims, ids, status = case
    whole = {"active": True, "iss": "https://as.test", "cnf": {"x5t#S256": mtls_client.thumbprint}, **claims}
    with IntrospectionServer() as server:
        server.tokens = {"text": {name: value for name, value in whole.items() if value is not None}}
        asking = IntrospectedAccessTokens(
            endpoint=server.url, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, allow_http=True
        )
        outcome = stack(RevocableTokens(asking, made(redis_server), ids=ids)).request(
            "Bearer text", certificate=mtls_client
        )
    assert (outcome.status, outcome.reached) == (status, status == 200)


def test_an_introspected_token_without_iss_is_of_the_issuer_that_was_configured(
    stack: type[Stack], redis_server: RedisServer, mtls_client: IssuedCertificate
) -> None:
    revocations = made(redis_server)
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
    layers = stack(RevocableTokens(forge.access_tokens(), made(redis_server)), binding="when_present")
    outcome = layers.request(f"Bearer {forge.token(payload=forge.claims(cnf=cnf))}", certificate=mtls_client)
    assert (outcome.status, outcome.error, outcome.reached) == (401, "invalid_token", False)


def test_a_token_stays_revoked_as_long_as_any_leeway_accepts_it(
    stack: type[Stack], redis_server: RedisServer, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    """Revoked until its `exp`, and read a second after it, with 60 s of leeway: the entry is there still."""
    ends = int(time.time()) - 1
    revocations = made(redis_server)
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
    revocations = made(redis_server)
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
    "or before": lambda asked, yes: asked | yes,
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
def test_an_exempt_path_passes_without_the_certificate_that_cannot_be_judged(
    redis_server: RedisServer, gateway: str
) -> None:
    options = {"source": ServerTLS(), "allow": following(redis_server).not_revoked, "exempt": ["/health"]}
    result = send(gateway, lambda module, app: module.protect(app, **options), Request(path="/health", tls=BILLING))
    assert result.application.certificate is None


def test_a_merely_presented_certificate_is_no_more_allowed_than_by_the_rule_beside_it(
    redis_server: RedisServer,
) -> None:
    revocations = made(redis_server)
    presented = BILLING.client_certificate(Verification.PRESENTED)
    known = Thumbprint(BILLING.thumbprint)
    assert not revocations.not_revoked.holds(presented)
    assert not (~revocations.not_revoked).holds(presented)
    assert not (known & revocations.not_revoked).holds(presented)
    assert (known & Presented(revocations.not_revoked)).holds(presented)
    revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
    until(lambda: not (known & Presented(revocations.not_revoked)).holds(presented))


# --- without Redis ---


@pytest.mark.parametrize("outage", ["dead", "stalled", "flushed", "another list's type", "garbage", "renamed"])
@pytest.mark.parametrize("on_failure", ["refuse", "keep"])
def test_an_old_list_is_gone_by_for_a_while_and_then_503(
    own_redis: RedisServer, outage: str, on_failure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """`keep` lasts 3 s longer: what it still knows is right, and then it is 503 too; the list back, all is well."""
    revocations = made(own_redis, max_age=1, on_failure=on_failure, keep_for=3)
    gone, stays = AUTHORITY.issue("CN=gone"), AUTHORITY.issue("CN=stays")
    revocations.revoke(thumbprint=gone.thumbprint, until=SOON)
    until(lambda: includes(revocations, gone) is True)
    with own_redis.client() as client:
        {
            "dead": own_redis.kill,
            "stalled": own_redis.stop,
            "flushed": client.flushall,
            "another list's type": lambda: client.set(KEY, "x"),
            "garbage": lambda: client.zadd(KEY, {"x": 10**13}),
            "renamed": lambda: client.rename(KEY, "elsewhere"),
        }[outage]()
    seen = []
    start = time.monotonic()
    while not seen or seen[-1] != "503":
        now = includes(revocations, gone), includes(revocations, stays)
        assert now[0] in (True, "503")  # never let in again
        seen.append("503" if "503" in now else now)
        time.sleep(0.02)
        assert time.monotonic() - start < 30
    assert (True, False) in seen
    assert on_failure == "refuse" or time.monotonic() - start > 1.5
    assert includes(following(own_redis, max_age=1, on_failure="keep", keep_for=3), stays) == "503"  # never saw it
    assert gone.thumbprint not in caplog.text
    assert f"no list under '{KEY}' in Redis: " in caplog.text
    if outage == "dead":
        own_redis.start()
    own_redis.go_on()
    with own_redis.client() as client:
        if outage == "renamed":
            client.rename("elsewhere", KEY)
        elif outage == "garbage":
            client.zrem(KEY, "x")
        elif outage != "stalled":  # the list is lost: made anew, from the records of whoever revoked
            client.delete(KEY)
            revocations.create([{"thumbprint": gone.thumbprint, "until": SOON}])
    until(lambda: includes(revocations, stays) is False, seconds=20)
    assert includes(revocations, gone) is True


@pytest.mark.parametrize("value", ["text", "hash", "stream", "foreign set"])
def test_what_another_put_under_the_key_is_neither_a_list_nor_touched(
    redis_server: RedisServer, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server.client() as client:
        {
            "text": lambda: client.set(KEY, "x"),
            "hash": lambda: client.hset(KEY, "a", "b"),
            "stream": lambda: client.xadd(KEY, {"a": "b"}),
            "foreign set": lambda: client.zadd(KEY, {"jane": 5, "john": 7}),
        }[value]()
        before = client.dump(KEY)
        revocations = following(redis_server)
        assert includes(revocations, BILLING) == "503"
        for write in (revocations.create, lambda: revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)):
            with pytest.raises(Unavailable):
                write()
        assert client.dump(KEY) == before
    assert "something else" in caplog.text or "none of ours" in caplog.text


# --- writing ---


def test_an_empty_redis_is_no_empty_list_until_somebody_makes_one(redis_server: RedisServer) -> None:
    revocations = following(redis_server)
    assert includes(revocations, BILLING) == "503"
    with pytest.raises(Unavailable, match="create"):
        revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
    assert includes(revocations, BILLING) == "503"
    revocations.create([{"thumbprint": BILLING.thumbprint, "until": SOON}])
    until(lambda: includes(revocations, BILLING) is True)


def test_a_list_that_is_being_filled_is_none_yet_and_one_that_is_there_is_never_emptied(
    redis_server: RedisServer,
) -> None:
    with redis_server.client() as client:
        client.zadd(KEY, {"A" * 43: SOON.timestamp()})  # as create() leaves it where it is cut off half way
        revocations = following(redis_server)
        assert includes(revocations, BILLING) == "503"
        with pytest.raises(Unavailable):
            revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
        revocations.create()
        revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
        until(lambda: includes(revocations, BILLING) is True)
        revocations.create([{"token_id": "1", "issuer": "https://as.test", "until": SOON}])
        revocations.create()
        assert client.zcount(KEY, "-inf", 10**11) == 3
    assert includes(following(redis_server), BILLING) is True


def test_redis_learns_no_token_id_and_forgets_what_is_over(redis_server: RedisServer) -> None:
    revocations = made(redis_server)
    revocations.revoke(token_id="a-secret-id", issuer="https://as.test", until=SOON)
    with redis_server.client() as client:
        assert client.keys() == [KEY.encode()]
        assert b"a-secret-id" not in b"".join(client.zrange(KEY, 0, -1))
        assert client.ttl(KEY) == -1  # nothing that expires, or is evicted where only such keys are
        client.zadd(KEY, {"B" * 43: time.time() - 1})
        for n in range(1200):
            revocations.revoke(token_id=str(n % 7), issuer="https://as.test", until=SOON)
        assert client.zscore(KEY, "B" * 43) is None
        assert client.zcard(KEY) <= 8 + 1001


def test_an_earlier_end_does_not_shorten_a_revocation(redis_server: RedisServer) -> None:
    revocations = made(redis_server)
    for hours in (5, 1):
        revocations.revoke(token_id="1", issuer="i", until=datetime.now(UTC) + timedelta(hours=hours))
    with redis_server.client() as client:
        ((_, score),) = client.zrangebyscore(KEY, "-inf", 10**11, withscores=True)
    assert score > time.time() + 4 * 3600


def test_readers_that_poll_and_readers_that_come_late_know_the_same(redis_server: RedisServer) -> None:
    """Two writers at once, and more at a time than the list keeps news of."""
    revocations = made(redis_server)
    with redis_server.client() as client:
        early = Follower(client, KEY)
        early.poll()

        def write(name: str) -> None:
            for part in range(6):
                entries = [{"token_id": f"{name}{part}.{n}", "issuer": "i", "until": SOON} for n in range(400)]
                revocations.create(entries)

        writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
        for each in writers:
            each.start()
        counts = []
        while any(each.is_alive() for each in writers):
            early.poll()
            counts.append(len(early.revoked))
        early.poll()
        late = Follower(client, KEY)
        late.poll()
    assert counts == sorted(counts)
    assert len(early.revoked) == 2 * 6 * 400
    assert early.revoked == late.revoked


def test_what_redis_loses_stays_revoked_where_it_was_known(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A replica that had not got everything is made the primary, or an older copy is loaded from disk."""
    revocations = made(redis_server)
    with redis_server.client() as client:
        older = client.dump(KEY)
        revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
        until(lambda: includes(revocations, BILLING) is True)
        client.restore(KEY, 0, older, replace=True)
    until(lambda: "went back to an older list" in caplog.text)
    other = AUTHORITY.issue()
    revocations.revoke(thumbprint=other.thumbprint, until=SOON)
    until(lambda: includes(revocations, other) is True)
    assert includes(revocations, BILLING) is True


def test_where_redis_cannot_be_had_revoking_says_so(own_redis: RedisServer) -> None:
    revocations = made(own_redis)
    own_redis.kill()
    for write in (revocations.create, lambda: revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)):
        with pytest.raises(Unavailable, match="not known whether"):
            write()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decode_responses", [False, True])
def test_every_kind_of_client_reads_the_same(redis_server: RedisServer, protocol: int, decode_responses: bool) -> None:
    client = redis_server.client(protocol=protocol, decode_responses=decode_responses)
    revocations = RedisRevocations(client)
    revocations.create([{"token_id": str(n), "issuer": "i", "until": SOON} for n in range(600)])
    assert includes(revocations, BILLING) is False
    revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
    until(lambda: includes(revocations, BILLING) is True)
    again = Follower(client, KEY)
    again.poll()
    assert len(again.revoked) == 601
    assert len(set(again.revoked.values())) == 1


@pytest.mark.parametrize("again", [False, True])
def test_a_list_that_is_lost_while_it_is_read_is_never_taken_for_whole(redis_server: RedisServer, again: bool) -> None:
    """Between two pages it is deleted; made again, with other entries, or not."""
    revocations = made(redis_server)
    revocations.create([{"token_id": str(n), "issuer": "i", "until": SOON} for n in range(5000)])
    pages = []

    class Losing(redis.Redis):
        def zscan(self, *arguments: Any, **options: Any) -> Any:
            page = super().zscan(*arguments, **options)
            if not pages:
                self.delete(KEY)
                if again:
                    revocations.create([{"thumbprint": BILLING.thumbprint, "until": SOON}])
            pages.append(page)
            return page

    with redis_server.client(Losing, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0)) as client:
        reader = Follower(client, KEY)
        reader.poll()
        assert (reader.fresh_at, reader.revoked) == (-math.inf, {})
        reader.poll()
        assert len(reader.revoked) == (1 if again else 0)
        assert (reader.fresh_at == -math.inf) is not again
    assert len(pages) > 1


def test_what_is_over_is_forgotten_by_the_clock_of_redis(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(redis_server)
    monkeypatch.setattr(follower, "_FORGET_EVERY", 0)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the clock of this machine is of no account
    with redis_server.client() as client:
        client.zadd(KEY, {"B" * 43: client.time()[0] + 2, "C" * 43: client.time()[0] + 1000})
        reader = Follower(client, KEY)
        reader.poll()
        assert len(reader.revoked) == 2
        client.zremrangebyscore(KEY, "-inf", 10**11)
        until(lambda: reader.poll() or len(reader.revoked) == 1)


def test_a_user_with_the_rights_on_the_page_reads_and_another_writes(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    reading = re.findall(r"`(\+zrange [^`]*)`", PAGE)[0].split()
    writing = [*reading, *re.findall(r"`(\+eval)` and `([^`]*)` beside", PAGE)[0]]
    with redis_server.client() as admin:
        for name, rights in (("reads", reading), ("writes", writing), ("nothing", [])):
            admin.execute_command("ACL", "SETUSER", name, "on", ">password", f"~{KEY}", *" ".join(rights).split())

        def as_user(name: str) -> RedisRevocations:
            return RedisRevocations(redis_server.client(username=name, password="password"))

        as_user("writes").create()
        as_user("writes").revoke(thumbprint=BILLING.thumbprint, until=SOON)
        assert includes(as_user("reads"), BILLING) is True
        with pytest.raises(Unavailable):
            as_user("reads").revoke(thumbprint=BILLING.thumbprint, until=SOON)
        assert includes(as_user("nothing"), BILLING) == "503"
        assert "let its user read this key" in caplog.text
        admin.execute_command("ACL", "DELUSER", "reads", "writes", "nothing")


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "allkeys-random"])
def test_a_redis_that_runs_full_lets_nobody_in(own_redis: RedisServer, policy: str) -> None:
    """It refuses to write, and says so, or throws the whole list away, which is an outage: never a part of it."""
    revocations = made(own_redis, max_age=1)
    revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
    until(lambda: includes(revocations, BILLING) is True)
    with own_redis.client() as client:
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", 1)
        with pytest.raises(Unavailable):
            revocations.revoke(token_id="1", issuer="i", until=SOON)
        left = client.exists(KEY)
    fresh = following(own_redis)
    for each in (revocations, fresh):
        until(lambda each=each: includes(each, BILLING) == (True if left else "503"))
    assert policy == "allkeys-random" or left


def test_without_a_thread_it_is_503_until_there_is_one(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(_thread: object) -> None:
        raise RuntimeError("can't start new thread")

    made(redis_server)
    revocations = following(redis_server)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", exhausted)
        assert includes(revocations, BILLING) == "503"
    assert includes(revocations, BILLING) is False


# --- processes, threads, cost ---


def test_a_request_sends_nothing_to_redis(
    stack: type[Stack], redis_server: RedisServer, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    layers = stack(RevocableTokens(mtls_issuer.access_tokens(), made(redis_server)))
    bearer = f"Bearer {mtls_issuer.token(certificate=mtls_client)}"
    assert layers.request(bearer, certificate=mtls_client).status == 200
    with redis_server.client() as client:
        # Nobody else polls: those of other tests went with their objects.
        gc.collect()
        time.sleep(0.6)
        client.config_resetstat()
        start = time.monotonic()
        assert {layers.request(bearer, certificate=mtls_client).status for _ in range(1000)} == {200}
        polls = (time.monotonic() - start) / 0.25
        calls = {name: each["calls"] for name, each in client.info("commandstats").items()}
    calls.pop("cmdstat_config|resetstat", None)
    assert sum(calls.values()) <= polls + 3, calls
    assert calls.keys() <= {"cmdstat_zrangebyscore", "cmdstat_info", "cmdstat_time"}


def test_a_hundred_thousand_entries_cost_a_request_no_more_than_none(redis_server: RedisServer) -> None:
    def cost(revocations: RedisRevocations) -> float:
        def once() -> float:
            start = time.perf_counter()
            for _ in range(500):
                assert b"x" * 32 not in revocations
            return time.perf_counter() - start

        return min(once() for _ in range(30))

    small, large = made(redis_server), following(redis_server, key="large")
    large.create({"token_id": str(n), "issuer": "i", "until": SOON} for n in range(100_000))
    until(lambda: includes(small, BILLING) is False)
    until(lambda: includes(large, BILLING) is False, seconds=60)
    assert cost(large) < 10 * cost(small)


FORKING = """
import os, sys, time, warnings
import redis
from mtls_middleware.resource_server import RedisRevocations
warnings.simplefilter("ignore")  # from Python 3.12 on: there is a thread, and that is the point
once = redis.retry.Retry(redis.backoff.NoBackoff(), 1)
client = redis.Redis(port=int(sys.argv[1]), socket_timeout=0.5, socket_connect_timeout=0.5, retry=once)
revocations, entry = RedisRevocations(client), bytes(32)
assert entry not in revocations
child = os.fork()
end = time.monotonic() + 20
os.write(1, b"asking\\n")
while entry not in revocations and time.monotonic() < end:
    time.sleep(0.01)
assert entry in revocations
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_fork_of_a_process_that_follows_follows_too(redis_server: RedisServer) -> None:
    revocations = made(redis_server)
    process = subprocess.Popen(
        [sys.executable, "-c", FORKING, str(redis_server.port)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["asking\n"] * 2
    revocations.revoke(thumbprint="A" * 43, until=SOON)
    assert process.wait(60) == 0
    process.stdout.close()


def test_threads_that_come_at_once_share_one_follower_and_it_ends_with_its_object(redis_server: RedisServer) -> None:
    made(redis_server)
    others = set(threading.enumerate())

    def followers() -> int:
        return sum(each.name == "mtls_middleware revocations" for each in set(threading.enumerate()) - others)

    revocations = following(redis_server)
    asking = [threading.Thread(target=revocations.follow) for _ in range(40)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    assert includes(revocations, BILLING) is False
    until(lambda: followers() == 1)
    del revocations
    gc.collect()
    until(lambda: followers() == 0)


def test_the_first_request_of_a_process_waits_for_the_list(redis_server: RedisServer) -> None:
    made(redis_server)
    for _ in range(20):
        assert includes(following(redis_server), BILLING) is False


def test_the_first_requests_wait_a_second_at_most_in_all(redis_server: RedisServer) -> None:
    """While a name is looked up, which no timeout of the client bounds."""
    looked_up = threading.Event()

    class Slow(redis.Redis):
        def zrange(self, *arguments: Any, **options: Any) -> Any:
            looked_up.wait(20)
            return super().zrange(*arguments, **options)

    made(redis_server)
    revocations = RedisRevocations(redis_server.client(Slow, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0)))
    start = time.monotonic()
    assert {includes(revocations, BILLING) for _ in range(200)} == {"503"}
    assert time.monotonic() - start < 10  # not two hundred seconds
    looked_up.set()
    until(lambda: includes(revocations, BILLING) is False)


# --- construction ---


def client(**options: Any) -> redis.Redis:
    usual = {"socket_timeout": 0.2, "socket_connect_timeout": 0.2}
    return redis.Redis(retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1), **{**usual, **options})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"client": "redis://:password@cache.internal"}, "client is a str: for example redis"),
        ({"client": redis.asyncio.Redis()}, "give a redis.Redis, under ASGI too"),
        ({"client": client(socket_timeout=None)}, "socket_timeout=None: 1 second at most"),
        ({"client": redis.Redis(socket_timeout=0.2, socket_connect_timeout=0.2)}, "retries: 1 at most"),
        ({"key": ""}, "key="),
        ({"key": b"x"}, "key="),
        ({"max_age": 0}, "max_age=0"),
        ({"max_age": 301}, "max_age=301"),
        ({"max_age": True}, "max_age=True"),
        ({"max_age": float("nan")}, "max_age=nan"),
        ({"on_failure": "allow"}, "on_failure="),
        ({"on_failure": "keep", "keep_for": 3601}, "keep_for=3601"),
        ({"on_failure": "keep", "keep_for": None}, "keep_for=None"),
        ({"on_failure": "keep", "keep_for": float("inf")}, "keep_for=inf"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_settings_are_refused_at_construction(options: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        RedisRevocations(**{"client": client(), **options})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "token_id="),
        ({"token_id": "1"}, "issuer="),
        ({"issuer": "i"}, "token_id="),
        ({"token_id": "", "issuer": "i"}, "token_id="),
        ({"token_id": 7, "issuer": "i"}, "token_id="),
        ({"thumbprint": "A" * 43, "token_id": "1", "issuer": "i"}, "of one thing"),
        ({"thumbprint": "A" * 43, "issuer": "i"}, "of one thing"),
        ({"thumbprint": "ab" * 32}, "43 characters of base64url"),
        ({"thumbprint": ""}, "43 characters of base64url"),
        ({"thumbprint": b"A" * 43}, "43 characters of base64url"),
        ({"thumbprint": "A" * 43, "until": datetime(2999, 1, 1)}, "an aware datetime"),  # noqa: DTZ001
        ({"thumbprint": "A" * 43, "until": 2_000_000_000}, "an aware datetime"),
        ({"thumbprint": "A" * 43, "until": datetime(2020, 1, 1, tzinfo=UTC)}, "is over"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_revoke_nothing_is_refused(arguments: Any, said: str) -> None:
    revocations = RedisRevocations(client())
    with pytest.raises(ConfigurationError, match=said):
        revocations.revoke(**{"until": SOON, **arguments})
    with pytest.raises(ConfigurationError, match=said):
        revocations.create([{"until": SOON, **arguments}])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda it: RevocableTokens(None, it), "tokens=None"),
        (lambda it: RevocableTokens(TrustedIssuers, it), "tokens="),
        (lambda it: RevocableTokens(forge.access_tokens(), client()), "revocations="),
        (lambda it: RevocableTokens(forge.access_tokens(), it, ids="none"), "ids='none'"),
        (lambda it: TrustedIssuers([RevocableTokens(forge.access_tokens(), it)]), "expected JWTAccessTokens"),
    ],
    ids=["none", "a class", "a client", "ids", "inside"],
)
def test_a_wrong_wrapper_is_refused_at_construction(make: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make(RedisRevocations(client()))


@pytest.mark.parametrize("entry", [{"jti": "1"}, {"token_id": "1", "issuer": "i"}, "text", 7, None])
def test_a_list_is_made_of_mappings_of_the_arguments_alone(entry: Any) -> None:
    with pytest.raises(ConfigurationError, match="create"):
        RedisRevocations(client()).create([entry])


def test_the_end_of_time_is_a_time_to_revoke_until(redis_server: RedisServer) -> None:
    revocations = made(redis_server)
    revocations.revoke(thumbprint=BILLING.thumbprint, until=datetime.max.replace(tzinfo=UTC))
    until(lambda: includes(revocations, BILLING) is True)
