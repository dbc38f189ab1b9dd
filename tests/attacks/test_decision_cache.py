"""The decision cache: nothing that it holds lets a request pass, or names another client, than new layers would."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware import AccessToken, ClientCertificate, Refused, Verification
from mtls_middleware.effects.flow import Flow
from mtls_middleware.layers.attached import ATTACHED_KEY
from mtls_middleware.policy import DNSName, Presented, Subject, Thumbprint
from mtls_middleware.policy.rule import All, Not, Rule
from mtls_middleware.resource_server import JWTAccessTokens, MemoryAnswers, TrustedIssuers
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from mtls_middleware.token_endpoint import ClientAuthenticator
from mtls_middleware.validation import RevocationLists, TrustStore
from mtls_middleware.validation import store as store_module
from mtls_middleware.validation.crl import RevocationList
from tests.attacks.test_fresh import relay
from tests.gateways import MODULES, PROXY, STRANGER, Request, Result, both_gateways, exchange, scope_of, send
from tests.introspection_server import IntrospectionServer
from tests.key_server import KeyServer
from tests.layers.clock import Clock, clock
from tests.layers.test_validity import Layers
from tests.layers.world import CLIENT, SECRET, TRUSTED, World, behind_nginx, carrying, certificates, nginx
from tests.resource_server.introspected import TOKEN, active, asking
from tests.validation.authority import crl

__all__ = ["clock"]

# Names that an outer layer of another source does not keep from the inner one.
OWN = {"certificate_header": "X-Own", "verify_header": "X-Own-Verify"}


@pytest.fixture(scope="module")
def world(mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> World:
    return World(mtls_client, mtls_other_client, mtls_issuer)


def is_cached(result: Result) -> bool:
    """Whether every decision about this request came from the cache."""
    found: bool = result.application.carrier[ATTACHED_KEY].cached
    return found


def cached(layers: Layers, request: Request) -> Result:
    """Send the request until its decision is cached."""
    for _ in range(2):
        layers.send(request)
    result = layers.send(request)
    assert is_cached(result)
    return result


def stack_of(layers: Layers) -> Any:
    return layers._made._stack


def entries(layers: Layers) -> int:
    return len(stack_of(layers)._cache._entries)


def own(client: IssuedCertificate, verify: str = "SUCCESS") -> list[tuple[str, str]]:
    return list(zip(OWN.values(), client.as_nginx(verify=verify).values(), strict=True))


def thumbprint(result: Result) -> str | None:
    certificate = None if result.seen is None else result.seen.certificate
    return None if certificate is None else certificate.thumbprint


# Classes of users that are made of ours


class Blocking:
    """Mixed into a class of ours: refuses as soon as `blocked` is true."""

    blocked = False

    def refuse(self) -> None:
        if self.blocked:
            raise Refused("client_certificate_refused", "blocked")


class BlockingSource(Blocking, ServerTLS):
    def find(self, view: Any) -> ClientCertificate | None:
        self.refuse()
        return super().find(view)


class BlockingProxy(Blocking, Nginx):
    def find(self, view: Any) -> ClientCertificate | None:
        self.refuse()
        return super().find(view)


class BlockingStore(Blocking, TrustStore):
    def validate(self, certificate: ClientCertificate, now: float) -> Flow[ClientCertificate]:
        self.refuse()
        return (yield from super().validate(certificate, now))


class BlockingLists(Blocking, RevocationLists):
    def check(self, requests: Any, now: float) -> Any:
        self.refuse()
        return (yield from super().check(requests, now))


class BlockingTokens(Blocking, JWTAccessTokens):
    def validate(self, text: str, now: float) -> Flow[AccessToken]:
        self.refuse()
        return (yield from super().validate(text, now))


class BlockingSubject(Blocking, Subject):
    def matches(self, certificate: ClientCertificate) -> bool:
        return not BlockingSubject.blocked and super().matches(certificate)


class BlockingThumbprint(Thumbprint):
    def judge(self, certificate: ClientCertificate) -> bool | None:
        return not BlockingSubject.blocked and super().judge(certificate)


class BlockingAll(All):
    def judge(self, certificate: ClientCertificate) -> bool | None:
        return not BlockingSubject.blocked and super().judge(certificate)


class BlockingNot(Not):
    def judge(self, certificate: ClientCertificate) -> bool | None:
        return not BlockingSubject.blocked and super().judge(certificate)


class BlockingPresented(Presented):
    def judge(self, certificate: ClientCertificate) -> bool | None:
        return not BlockingSubject.blocked and super().judge(certificate)


@both_gateways
@pytest.mark.parametrize("kind", [BlockingSource, BlockingProxy])
def test_a_source_made_of_ours_is_asked_on_every_request(gateway: str, kind: Any, world: World) -> None:
    source = kind() if kind is BlockingSource else kind(trusted_proxies=TRUSTED)
    layers = Layers(gateway, certificates(source))
    request = behind_nginx(world.client, tls=world.client)
    for _ in range(3):
        assert layers.send(request).status == 200
    source.blocked = True
    assert layers.send(request).status == 403


@both_gateways
@pytest.mark.parametrize("kind", ["store", "lists"])
def test_a_trust_store_made_of_ours_is_asked_on_every_request(
    gateway: str, kind: str, world: World, mtls_ca: CertificateAuthority, tmp_path: Path
) -> None:
    (tmp_path / "ca.crl").write_bytes(crl(mtls_ca, [1], now=time.time()))
    lists = BlockingLists([tmp_path])
    store = BlockingStore([mtls_ca.certificate], revocation=lists)
    if kind == "lists":
        store = TrustStore([mtls_ca.certificate], revocation=lists)
    layers = Layers(gateway, certificates(ServerTLS(), trust_store=store))
    for _ in range(3):
        assert layers.send(Request(tls=world.client)).status == 200
    (lists if kind == "lists" else layers._made._layers[0]._store).blocked = True
    assert layers.send(Request(tls=world.client)).status == 403


@both_gateways
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_token_validator_made_of_ours_is_asked_on_every_request(gateway: str, wrapped: bool, world: World) -> None:
    issuer = world.issuer
    tokens = BlockingTokens(issuer=issuer.issuer, audience=issuer.audience, jwks=issuer.jwks)
    layers = Layers(gateway, world.tokens(tokens=TrustedIssuers([tokens]) if wrapped else tokens))
    request = carrying(world, world.bearer(certificate=world.client))
    for _ in range(3):
        assert layers.send(request).status == 200
    tokens.blocked = True
    assert layers.send(request).status == 403


@pytest.fixture
def _unblocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlockingSubject, "blocked", False)


@pytest.mark.usefixtures("_unblocked")
@both_gateways
@pytest.mark.parametrize("name", ["Subject", "Thumbprint", "All", "Not", "Presented", "within ours"])
def test_a_rule_made_of_ours_is_asked_on_every_request(
    gateway: str, name: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = "CN=client,O=Tests"
    rules: dict[str, Callable[[], Rule]] = {
        "Subject": lambda: BlockingSubject(subject),
        "Thumbprint": lambda: BlockingThumbprint(world.client.thumbprint),
        "All": lambda: BlockingAll((CLIENT, DNSName("client.example.test"))),
        "Not": lambda: BlockingNot(Thumbprint("A" * 43)),
        "Presented": lambda: BlockingPresented(CLIENT),
        "within ours": lambda: ~~(CLIENT & BlockingAll((CLIENT, CLIENT))),
    }
    layers = Layers(gateway, certificates(ServerTLS(), allow=rules[name]()))
    for _ in range(3):
        assert layers.send(Request(tls=world.client)).status == 200
    monkeypatch.setattr(BlockingSubject, "blocked", True)
    assert layers.send(Request(tls=world.client)).status == 403


@both_gateways
@pytest.mark.parametrize("what", ["find", "validate a certificate", "check", "validate a token"])
def test_a_method_that_one_object_replaces_is_called_on_every_request(
    gateway: str, what: str, world: World, mtls_ca: CertificateAuthority, tmp_path: Path
) -> None:
    (tmp_path / "ca.crl").write_bytes(crl(mtls_ca, [1], now=time.time()))
    source, lists, tokens = ServerTLS(), RevocationLists([tmp_path]), world.issuer.access_tokens()
    store = TrustStore([mtls_ca.certificate], revocation=lists)
    owners: dict[str, Any] = {
        "find": source, "validate a certificate": store, "check": lists, "validate a token": tokens,
    }  # fmt: skip
    owner, name = owners[what], what.split()[0]
    replaced, blocked = getattr(owner, name), []

    def instead(*arguments: Any) -> Any:
        if blocked:
            raise Refused("client_certificate_refused", "blocked")
        return replaced(*arguments)

    setattr(owner, name, instead)
    layers = Layers(gateway, world.tokens(source=source, trust_store=store, tokens=tokens))
    request = carrying(world, world.bearer(certificate=world.client))
    for _ in range(3):
        assert layers.send(request).status == 200
    blocked.append(True)
    assert layers.send(request).status == 403


def test_the_classes_of_this_package_are_reusable(world: World, mtls_ca: CertificateAuthority, tmp_path: Path) -> None:
    """So that the tests above do not pass because nothing is cached."""
    (tmp_path / "ca.crl").write_bytes(crl(mtls_ca, [1], now=time.time()))
    store = TrustStore([mtls_ca.certificate], revocation=RevocationLists([tmp_path]))
    request = carrying(world, world.bearer(certificate=world.client))
    for gateway in MODULES:
        for allow in (CLIENT & ~Thumbprint("A" * 43), CLIENT | Presented(CLIENT)):
            cached(Layers(gateway, world.tokens(trust_store=store, allow=allow)), request)


# What an outer gateway attaches


def apart(wrap_inner: Any, wrap_outer: Any) -> Any:
    """Two gateways with a middleware between them that is not ours."""
    return lambda module, app: wrap_outer(module, relay(module, [wrap_inner(module, app)]))


class TenantCertificate(ClientCertificate):
    """A user's class, whose objects say more than the certificate does."""

    def for_tenant(self, tenant: str) -> "TenantCertificate":
        object.__setattr__(self, "tenant", tenant)
        return self


class TenantSource:
    """A user's source: the same certificate comes from several tenants."""

    can_verify, drop_headers, vary = True, frozenset[str](), None

    def __init__(self) -> None:
        self.tenant = ""

    def find(self, view: Any) -> ClientCertificate | None:
        found = ServerTLS().find(view)
        if found is None:
            return None
        return TenantCertificate.from_der(found.der, verification=found.verification).for_tenant(self.tenant)


@both_gateways
def test_what_a_class_of_the_user_adds_to_a_certificate_is_that_of_this_request(gateway: str, world: World) -> None:
    outer = TenantSource()
    inner = certificates(Nginx(trusted_proxies=TRUSTED, **OWN), required=True)
    layers = Layers(gateway, apart(inner, certificates(outer)))

    def tenant() -> Any:
        return getattr(layers.send(Request(tls=world.client)).application.certificate, "tenant", None)

    found = []
    for outer.tenant in ("a", "a", "b", "b"):
        found.append(tenant())
    assert found == ["a", "a", "b", "b"]


@both_gateways
@pytest.mark.parametrize("fused", [True, False])
def test_the_certificate_of_an_outer_layer_is_that_of_this_request(gateway: str, fused: bool, world: World) -> None:
    inner = certificates(Nginx(trusted_proxies=TRUSTED, **OWN), required=True)
    outer = certificates(ServerTLS())
    wrap = (lambda module, app: outer(module, inner(module, app))) if fused else apart(inner, outer)
    layers = Layers(gateway, wrap)
    for _ in range(3):
        for tls, verified, status in (
            (world.client, True, 200), (world.other, True, 200), (world.client, False, 403), (None, True, 403),
        ):  # fmt: skip
            result = layers.send(Request(tls=tls, verified=verified))
            assert result.status == status
            assert status == 403 or thumbprint(result) == tls.thumbprint
        both = layers.send(Request(tls=world.other, headers=own(world.client)))
        assert thumbprint(both) == world.client.thumbprint


@both_gateways
def test_a_proxy_that_is_trusted_again_speaks_for_its_client_again(gateway: str, world: World) -> None:
    """While it was not, the certificate of an outer layer stood for the request."""
    trusted: list[bool] = [False]
    inner = Nginx(proxy_certificate=lambda _: trusted[0], **OWN)
    outer = Nginx(trusted_proxies=TRUSTED)
    layers = Layers(gateway, lambda module, app: certificates(outer)(module, certificates(inner)(module, app)))
    request = Request(headers=[*nginx(world.other), *own(world.client)], tls=world.other)
    for trusted[0], client in ((False, world.other), (True, world.client), (False, world.other)) * 2:
        for _ in range(2):
            assert thumbprint(layers.send(request)) == client.thumbprint


@both_gateways
def test_a_proxy_whose_certificate_becomes_valid_speaks_for_its_client(
    gateway: str, world: World, clock: Clock, mtls_ca: CertificateAuthority
) -> None:
    proxy = mtls_ca.issue("CN=proxy", not_before=_date(clock.now + 1000), not_after=_date(clock.now + 2000))
    inner, outer = Nginx(proxy_certificate=Subject("CN=proxy"), **OWN), Nginx(trusted_proxies=TRUSTED)
    layers = Layers(gateway, lambda module, app: certificates(outer)(module, certificates(inner)(module, app)))
    request = Request(headers=[*nginx(world.other), *own(world.client)], tls=proxy)
    begun = clock.now
    for later, client in ((0, world.other), (1500, world.client), (2500, world.other), (1500, world.client)):
        clock.now = begun + later
        for _ in range(2):
            assert thumbprint(layers.send(request)) == client.thumbprint, later


def _date(seconds: float) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC)


# Memory


def lists_in_memory() -> int:
    gc.collect()
    return sum(type(each) is RevocationList for each in gc.get_objects())


@both_gateways
def test_a_cached_decision_keeps_no_old_revocation_list_and_no_old_roots_in_memory(
    gateway: str, clock: Clock, mtls_ca: CertificateAuthority, tmp_path: Path
) -> None:
    """A list may have a million entries, and a client who came once is looked up never again."""
    (tmp_path / "roots").mkdir()
    lists, roots = tmp_path / "ca.crl", tmp_path / "roots" / "ca.pem"
    lists.write_bytes(crl(mtls_ca, [1], now=clock.now, ends=86_400))
    roots.write_text(mtls_ca.pem)
    with KeyServer(lists.read_bytes()) as server:
        revocation = RevocationLists([lists], urls=[server.url], allow_http=True)
        store = TrustStore([tmp_path / "roots"], revocation=revocation)
        layers, before = Layers(gateway, certificates(ServerTLS(), trust_store=store)), lists_in_memory()
        for number in range(5):
            cached(layers, Request(tls=mtls_ca.issue(f"CN=client {number}")))
            server.jwks = crl(mtls_ca, [1], now=clock.now, number=number + 2, begins=number - 3600, ends=86_400)
            lists.write_bytes(server.jwks)
            roots.write_text(mtls_ca.pem + "\n" * number)
            clock.now += 700
        cached(layers, Request(tls=mtls_ca.issue("CN=client")))
        assert entries(layers) == 6
        assert lists_in_memory() == before + 1  # the fetched one
        assert sum(type(each) is store_module._Snapshot for each in gc.get_objects()) == 1


@both_gateways
@pytest.mark.parametrize(
    "claim", [[{}] * 3_500, [[{}]] * 2_000, ["a1"] * 2_000, {str(each): {} for each in range(999)}]
)
def test_a_token_with_endless_claims_is_not_cached(gateway: str, claim: Any, world: World) -> None:
    """A client chooses authorization_details (RFC 9396), and 12 kB of JSON can be 450 kB as objects."""
    layers = Layers(gateway, world.tokens())
    text = world.issuer.token(certificate=world.client, claims={"authorization_details": claim})
    assert len(text) < 16_384
    for _ in range(3):
        assert layers.send(carrying(world, ("Authorization", f"Bearer {text}"))).application.token is not None
    assert entries(layers) == 0


@both_gateways
def test_a_token_with_deep_claims_is_accepted_like_any_other(gateway: str, world: World) -> None:
    deep: Any = "end"
    for _ in range(10):
        deep = {"a": [deep]}
    cached(Layers(gateway, world.tokens()), carrying(world, world.bearer(certificate=world.client, claims={"a": deep})))


@both_gateways
def test_clients_without_an_accepted_certificate_put_nothing_into_the_cache(gateway: str, world: World) -> None:
    layers = Layers(gateway, world.tokens(allow=CLIENT, exempt=["/health"]))
    good = world.bearer(certificate=world.client)
    for request in (
        Request(), Request(headers=[good]), Request(path="/health"), Request(path="/health", headers=[good]),
        Request(tls=world.other, headers=[good]), Request(tls=world.client, verified=False, headers=[good]),
        Request(tls=world.client), Request(tls=world.client, headers=[world.bearer(certificate=world.other)]),
        Request(tls=world.client, headers=[world.bearer()]), Request(tls=world.client, headers=[good, good]),
        Request(tls=world.client, headers=[good], query="access_token=x"),
    ):  # fmt: skip
        for _ in range(2):
            layers.send(request)
    assert entries(layers) == 0
    cached(layers, carrying(world, good))
    assert entries(layers) == 1


@both_gateways
def test_a_header_field_of_many_kilobytes_is_not_kept(gateway: str, world: World) -> None:
    layers = Layers(gateway, certificates(Nginx(trusted_proxies=TRUSTED)))
    blanks = "%20" * 7_000  # which PEM may have at its end
    field, word = nginx(world.client)
    for _ in range(3):
        assert layers.send(Request(headers=[(field[0], field[1] + blanks), word])).application.certificate is not None
    assert entries(layers) == 0
