"""The decision cache: nothing that it holds lets a request pass, or names another client, than new layers would."""

import asyncio
import gc
import io
import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware import (
    AccessToken,
    ClientCertificate,
    ConfigurationError,
    Refused,
    Verification,
    access_token,
    client_certificate,
    oauth_client,
    sources,
)
from mtls_middleware.asgi_request import ASGIRequest
from mtls_middleware.cache import CacheMemory
from mtls_middleware.effects.flow import BlockingDriver, Flow
from mtls_middleware.layers.attached import ATTACHED_KEY
from mtls_middleware.layers.certificate import CertificateLayer
from mtls_middleware.layers.interface import DeclaredView, Facts, Route, UndeclaredFact
from mtls_middleware.layers.token import TokenLayer
from mtls_middleware.policy import DNSName, Presented, Subject, Thumbprint
from mtls_middleware.resource_server import JWTAccessTokens, MemoryAnswers, TrustedIssuers, protected_resource_metadata
from mtls_middleware.revocation import RedisRevocations, RevocableTokens
from mtls_middleware.rule import All, Not, Rule
from mtls_middleware.sources import Nginx, ServerTLS, server
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from mtls_middleware.token_endpoint import ClientAuthenticator, RegisteredClient
from mtls_middleware.validation import RevocationLists, TrustStore
from mtls_middleware.validation import store as store_module
from mtls_middleware.validation.crl import RevocationList
from mtls_middleware.wsgi_request import WSGIRequest
from tests.attacks.test_fresh import relay
from tests.gateways import (
    MODULES,
    PROXY,
    STRANGER,
    Outcome,
    Request,
    both_gateways,
    environ_of,
    exchange,
    scope_of,
    send,
)
from tests.growth import assert_grows_with_size
from tests.introspection_server import IntrospectionServer
from tests.key_server import KeyServer
from tests.key_server import until as until_true
from tests.layers.clock import Clock, clock
from tests.layers.test_validity import Layers
from tests.layers.world import CLIENT, SECRET, TRUSTED, World, behind_nginx, carrying, certificates, nginx
from tests.redis_server import RedisServer, redis_server, shared_redis
from tests.resource_server.introspection import TOKEN, active, asking
from tests.validation.authority import crl

__all__ = ["clock", "redis_server", "shared_redis"]

# Names that an outer layer of another source does not keep from the inner one.
OWN = {"certificate_header": "X-Own", "verify_header": "X-Own-Verify"}


@pytest.fixture(scope="module")
def world(mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> World:
    return World(mtls_client, mtls_other_client, mtls_issuer)


def is_cached(result: Outcome) -> bool:
    """Whether every decision about this request came from the cache."""
    found: bool = result.application.carrier[ATTACHED_KEY].cached
    return found


def cached(layers: Layers, request: Request) -> Outcome:
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


def thumbprint(result: Outcome) -> str | None:
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
    def statuses(self, requests: Any, now: float) -> Any:
        self.refuse()
        return (yield from super().statuses(requests, now))


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
def test_a_subclass_of_a_builtin_source_is_called_on_every_request(gateway: str, kind: Any, world: World) -> None:
    source = kind() if kind is BlockingSource else kind(trusted_proxies=TRUSTED)
    layers = Layers(gateway, certificates(source))
    request = behind_nginx(world.client, tls=world.client)
    for _ in range(3):
        assert layers.send(request).status == 200
    source.blocked = True
    assert layers.send(request).status == 403


@both_gateways
@pytest.mark.parametrize("kind", ["store", "lists"])
def test_a_subclass_of_trust_store_is_called_on_every_request(
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
def test_a_subclass_of_a_token_validator_is_called_on_every_request(gateway: str, wrapped: bool, world: World) -> None:
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
def test_a_cached_decision_calls_a_subclass_of_a_rule_on_every_request(
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
@pytest.mark.parametrize("what", ["find", "validate a certificate", "statuses", "validate a token"])
def test_a_method_that_one_object_replaces_is_called_on_every_request(
    gateway: str, what: str, world: World, mtls_ca: CertificateAuthority, tmp_path: Path
) -> None:
    (tmp_path / "ca.crl").write_bytes(crl(mtls_ca, [1], now=time.time()))
    source, lists, tokens = ServerTLS(), RevocationLists([tmp_path]), world.issuer.access_tokens()
    store = TrustStore([mtls_ca.certificate], revocation=lists)
    owners: dict[str, Any] = {
        "find": source, "validate a certificate": store, "statuses": lists, "validate a token": tokens,
    }  # fmt: skip
    owner, name = owners[what], what.split(maxsplit=1)[0]
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
def test_an_attribute_added_by_a_users_source_belongs_to_this_request(gateway: str, world: World) -> None:
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


def snapshots_in_memory() -> int:
    gc.collect()
    return sum(type(each) is store_module._Snapshot for each in gc.get_objects())


def lists_in_memory() -> int:
    gc.collect()
    return sum(type(each) is RevocationList for each in gc.get_objects())


@both_gateways
def test_a_cached_decision_does_not_keep_old_lists_or_roots_in_memory(
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
        snapshots = snapshots_in_memory()
        for number in range(5):
            cached(layers, Request(tls=mtls_ca.issue(f"CN=client {number}")))
            server.jwks = crl(mtls_ca, [1], now=clock.now, number=number + 2, begins=number - 3600, ends=86_400)
            lists.write_bytes(server.jwks)
            roots.write_text(mtls_ca.pem + "\n" * number)
            clock.now += 700
        cached(layers, Request(tls=mtls_ca.issue("CN=client")))
        assert entries(layers) == 6
        assert lists_in_memory() == before + 1  # the fetched one
        assert snapshots_in_memory() == snapshots


@both_gateways
@pytest.mark.parametrize(
    "claim", [[{}] * 3_500, [[{}]] * 2_000, ["a1"] * 2_000, {str(each): {} for each in range(999)}]
)
def test_a_token_with_endless_claims_counts_as_its_objects(gateway: str, claim: Any, world: World) -> None:
    """A client chooses authorization_details (RFC 9396), and 12 kB of JSON can be 450 kB as objects."""
    layers = Layers(gateway, world.tokens())
    tracemalloc.start()
    claims = json.loads(json.dumps(claim))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    text = world.issuer.token(certificate=world.client, claims={"authorization_details": claim})
    layers.send(carrying(world, ("Authorization", f"Bearer {text}")))
    assert len(claims) > 900
    assert stack_of(layers)._cache._entries.memory.size > held


@both_gateways
def test_a_certificate_with_endless_names_counts_as_its_names(gateway: str, mtls_ca: CertificateAuthority) -> None:
    """Any client can present a certificate that it has made itself, and an application may read its names."""
    names = [f"n{number}.example" for number in range(450)]
    client = mtls_ca.issue("CN=many", dns=names)
    layers = Layers(gateway, certificates(ServerTLS(), required=False))
    found = layers.send(Request(tls=client)).application.certificate
    assert found is not None
    tracemalloc.start()
    assert len(ClientCertificate.from_der(found.der).dns_names) == 450
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert stack_of(layers)._cache._entries.memory.size > held


@both_gateways
def test_a_token_with_deep_claims_is_accepted_like_any_other(gateway: str, world: World) -> None:
    deep: Any = "end"
    for _ in range(10):
        deep = {"a": [deep]}
    cached(Layers(gateway, world.tokens()), carrying(world, world.bearer(certificate=world.client, claims={"a": deep})))


@both_gateways
def test_requests_that_are_not_accepted_add_nothing_to_the_cache(gateway: str, world: World) -> None:
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


# The facts that a layer reads


def _sources() -> dict[str, Any]:
    """Each source of the package, with each kind of trust, and with each field that it can read."""
    every = {
        name: kind
        for name in sources.__all__
        if isinstance(kind := getattr(sources, name), type) and name not in ("HeaderSource", "Source")
        if hasattr(kind, "find")
    }
    assert len(every) >= 12
    trust = {"trusted_proxies": TRUSTED, "shared_secret": SECRET, "proxy_certificate": Subject("CN=client,O=Tests")}
    found: dict[str, Any] = {"ServerTLS": every.pop("ServerTLS")()}
    del every["AWSAPIGateway"]  # its decisions are not cached: see test_api_gateway.py
    for name, kind in every.items():
        mode: dict[str, Any] = {"mode": "verify"} if kind is sources.AWSLoadBalancer else {}
        found |= {f"{name} {key}": kind(**{key: value}, **mode) for key, value in trust.items()}
        found[name] = kind(**trust, **mode)
    found["HAProxy chain"] = sources.HAProxy(chain_header="X-SSL-Client-Chain", **trust)
    found["AWS passthrough"] = sources.AWSLoadBalancer(mode="passthrough", **trust)
    found["Envoy hops"] = sources.Envoy(hops=1, verified_by_proxy=True, **trust)
    found["Envoy formatter"] = sources.Envoy(certificate_header="X-Own", verify_header="X-Own-Verify", **trust)
    return found


EVERY = _sources()


def _lines(source: Any, client: IssuedCertificate) -> Iterator[list[tuple[str, str]]]:
    """Header fields that get as far as the source reads: with a certificate in each format, and with none."""
    secret = [SECRET] if getattr(source, "has_secret", False) else []
    pem, der = client.as_nginx()["X-SSL-Client-Cert"], client.as_client_cert()["Client-Cert"]
    for value in (pem, der, der.strip(":"), f"Cert={pem}", f"Cert={pem},Cert={pem}", "rubbish", None):
        for word in ("SUCCESS", "true", "FAILED", "rubbish", None):
            lines = [*secret]
            for name in sorted(source.drop_headers - {SECRET[0].lower()}):
                given = word if any(each in name for each in ("verif", "revoked")) else value
                if name.endswith("sha256"):
                    given = client.client_certificate().digest.hex()
                if given is not None and not name.endswith("chain"):
                    lines.append((name, given))
            yield lines


def _found(source: Any, view: Any) -> Any:
    try:
        certificate = source.find(view)
    except Refused as refusal:
        return refusal.code
    return None if certificate is None else certificate.identity


def _request(gateway: str, request: Request) -> Any:
    return ASGIRequest(scope_of(request)) if gateway == "asgi" else WSGIRequest(environ_of(request))


@both_gateways
@pytest.mark.parametrize("name", EVERY)
def test_a_source_reads_only_the_facts_that_it_declares(gateway: str, name: str, world: World) -> None:
    source = EVERY[name]
    layer = CertificateLayer(source, trust_store=None, allow=None, required=None, exempt=())
    assert layer.facts is not None
    everything = []
    for lines in _lines(source, world.client):
        for tls in (world.client, world.other, None):
            request = _request(gateway, Request(headers=lines, tls=tls))
            declared = DeclaredView(request, layer.facts)
            found = _found(source, declared)  # an undeclared fact raises UndeclaredFact, which is no refusal
            layer._proxy_checks(declared)
            assert found == _found(source, request)
            everything.append(found)
    assert any(isinstance(each, tuple) for each in everything)  # a certificate
    assert None in everything


@both_gateways
def test_the_tls_facts_of_a_layer_hold_nothing_that_is_not_in_the_key(gateway: str, world: World) -> None:
    """Under WSGI, they come in the environ, beside the path and all header fields."""
    chained = replace(world.client, chain=(world.other.x509,))
    request = _request(gateway, Request(headers=nginx(world.client), tls=chained, extra={"SSL_CLIENT_S_DN": "CN=x"}))
    facts = DeclaredView(request, Facts(tls=True)).tls
    if gateway == "asgi":
        assert facts.environ is None
        assert facts.extension is not None
        assert set(facts.extension) == {"client_cert_error", "client_cert_chain"}
    else:
        assert facts.extension is None
        assert facts.environ is not None
        assert set(facts.environ) == {"SSL_CLIENT_CERT", "SSL_CLIENT_VERIFY", "SSL_CLIENT_CERT_CHAIN_0"}
    assert server.tls_identity(facts) == server.tls_identity(request.tls)
    certificate = server.read(facts, 0.0)
    assert certificate is not None
    assert certificate.chain == (world.other.der,)


@both_gateways
@pytest.mark.parametrize(
    "read",
    [
        lambda view: view.peer, lambda view: view.tls, lambda view: view.query, lambda view: view.method,
        lambda view: view.path, lambda view: view.location, lambda view: view.body, lambda view: view.field_names(),
        lambda view: view.headers("accept"), lambda view: view.headers("authorization"),
        lambda view: view.headers("x-owner"), lambda view: view.has_one_line("x-own"),
    ],
)  # fmt: skip
def test_a_layer_that_reads_an_undeclared_fact_fails(gateway: str, read: Any, world: World) -> None:
    """So a decision cannot depend on a fact outside of the key of the cache."""
    request = _request(gateway, carrying(world, world.bearer(), ("X-Own", "declared")))
    view = DeclaredView(request, Facts(fields=frozenset({"x-own"})))
    assert list(view.headers("x-own")) == ["declared"]
    with pytest.raises(UndeclaredFact):
        read(view)


@both_gateways
def test_a_source_that_reads_an_undeclared_fact_is_never_reached_with_it(gateway: str, world: World) -> None:
    class Careless:
        is_reusable, can_verify, drop_headers, vary, reads_peer = True, True, frozenset({"x-own"}), None, False

        def find(self, view: Any) -> ClientCertificate | None:
            found = server.read(view.tls, view.now)
            return found if view.headers("x-tenant") or view.peer else None

    for _ in range(2):
        assert send(gateway, certificates(Careless()), Request(tls=world.client)).status == 500


@both_gateways
def test_a_token_layer_reads_only_the_facts_that_it_declares(gateway: str, world: World) -> None:
    layer = TokenLayer(
        world.issuer.access_tokens(), scopes=(), binding="required", exempt=(), realm=None, resource_metadata=None
    )
    good = world.bearer(certificate=world.client)
    for lines in ([], [good], [good, good], [world.bearer()], [("Authorization", "Basic eDp5")]):
        request = _request(gateway, Request(headers=lines, tls=world.client))
        request.attached.set("certificate", world.client.client_certificate())
        view: Any = DeclaredView(request, layer.facts or Facts())
        try:
            found: Any = BlockingDriver().run(layer.decide(view, Route())).value.claims["jti"]
        except Refused as refusal:
            found = refusal.code
        assert isinstance(found, str)  # an undeclared fact raises UndeclaredFact


# Time, and what changes while a decision is cached or under way


@both_gateways
def test_a_clock_jump_does_not_extend_a_cached_decision(
    gateway: str, clock: Clock, mtls_ca: CertificateAuthority, mtls_issuer: TokenIssuer, tmp_path: Path
) -> None:
    begun = clock.now
    client = mtls_ca.issue("CN=client", not_before=_date(begun - 500), not_after=_date(begun + 1000))
    text = mtls_issuer.token(certificate=client, claims={"iat": begun - 300, "exp": begun + 700})
    (tmp_path / "ca.crl").write_bytes(crl(mtls_ca, [1], now=begun, begins=-100, ends=500))
    store = TrustStore([mtls_ca.certificate], revocation=RevocationLists([tmp_path]))
    request = Request(tls=client, headers=[("Authorization", f"Bearer {text}")])
    for options, first, last in (
        ({"tokens": None}, -560, 1060),
        ({}, -310, 709),
        ({"trust_store": store}, -100, 500),
    ):
        tokens = {"tokens": mtls_issuer.access_tokens(), **options}

        def wrap(module: Any, app: Any, given: Any = tokens) -> Any:
            return module.protect(app, source=ServerTLS(), **given)

        clock.now = begun
        layers = Layers(gateway, wrap)
        cached(layers, request)
        for later in (first, first - 1, last, last + 1, 0, last + 100_000, -100_000, first, last + 1, 0):
            clock.now = begun + later
            result = layers.send(request)
            assert (result.status == 200) == (first <= later <= last), (options, later)
            assert result.status == send(gateway, wrap, request).status


@both_gateways
def test_a_future_revocation_list_revokes_at_once_and_releases_at_its_time(
    gateway: str, clock: Clock, mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate, tmp_path: Path
) -> None:
    held, other = mtls_client, mtls_ca.issue("CN=other")
    (tmp_path / "now.crl").write_bytes(crl(mtls_ca, [held], now=clock.now, ends=90_000))
    (tmp_path / "later.crl").write_bytes(crl(mtls_ca, [other], now=clock.now, begins=1000, ends=90_000, number=2))
    store = TrustStore([mtls_ca.certificate], revocation=RevocationLists([tmp_path]))
    layers, begun = Layers(gateway, certificates(ServerTLS(), trust_store=store)), clock.now
    for later, status in ((0, 403), (999, 403), (1000, 200), (5000, 200), (999, 403), (1000, 200)):
        clock.now = begun + later
        for _ in range(2):
            assert layers.send(Request(tls=held)).status == status, later
            assert layers.send(Request(tls=other)).status == 403


@both_gateways
def test_a_status_that_soft_fail_lets_pass_is_asked_for_on_every_request(
    gateway: str, clock: Clock, mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate, tmp_path: Path
) -> None:
    other = CertificateAuthority("CN=another CA")
    (tmp_path / "ca.crl").write_bytes(crl(other, [1], now=clock.now))
    store = TrustStore([mtls_ca.certificate], revocation=RevocationLists([tmp_path], soft_fail=True))
    layers = Layers(gateway, certificates(ServerTLS(), trust_store=store))
    for _ in range(3):
        assert layers.send(Request(tls=mtls_client)).status == 200
    assert entries(layers) == 0
    (tmp_path / "ca.crl").write_bytes(crl(mtls_ca, [mtls_client], now=clock.now))
    clock.now += 2
    assert layers.send(Request(tls=mtls_client)).status == 403


@both_gateways
def test_roots_replaced_during_a_decision_apply_to_the_next_request(
    gateway: str, clock: Clock, mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate, tmp_path: Path
) -> None:
    """The rule is asked after the trust store."""
    roots, replace_now = tmp_path / "roots.pem", [False]
    roots.write_text(mtls_ca.pem)
    store = TrustStore([roots])

    def replaces(_: ClientCertificate) -> bool:
        if replace_now[0]:
            roots.write_text(CertificateAuthority("CN=another CA").pem)
            clock.now += 2
        return True

    layers = Layers(gateway, certificates(ServerTLS(), trust_store=store, allow=replaces))
    replace_now[0] = True
    assert layers.send(Request(tls=mtls_client)).status == 200
    replace_now[0] = False
    assert layers.send(Request(tls=mtls_client)).status == 403
    roots.write_text(mtls_ca.pem)
    clock.now += 2
    cached(layers, Request(tls=mtls_client))


@both_gateways
@pytest.mark.parametrize("way", ["jwks_uri", "discovery"])
def test_only_a_removed_key_ends_cached_decisions_about_its_tokens(
    gateway: str, way: str, clock: Clock, mtls_client: IssuedCertificate
) -> None:
    with KeyServer({}) as server_of_keys:
        issuer = TokenIssuer(server_of_keys.host)
        server_of_keys.jwks = issuer.jwks
        document = "/.well-known/oauth-authorization-server"
        server_of_keys.documents[document] = {"issuer": issuer.issuer, "jwks_uri": server_of_keys.url}
        given = {"jwks_uri": server_of_keys.url} if way == "jwks_uri" else {"discovery": "rfc8414"}
        tokens = issuer.access_tokens(jwks=None, allow_http=True, **given)
        layers = Layers(gateway, lambda module, app: module.protect(app, source=ServerTLS(), tokens=tokens))
        text = issuer.token(certificate=mtls_client, claims={"exp": clock.now + 90_000})
        request = Request(tls=mtls_client, headers=[("Authorization", f"Bearer {text}")])
        cached(layers, request)
        clock.now += 700
        server_of_keys.jwks = {**issuer.jwks, "a new member": 1}
        layers.send(request)
        assert is_cached(layers.send(request))  # at once: the set has the same keys
        issuer.rotate()
        issuer.retire()
        server_of_keys.jwks = issuer.jwks
        server_of_keys.documents["/elsewhere"] = issuer.jwks
        server_of_keys.documents[document] = {"issuer": issuer.issuer, "jwks_uri": f"{server_of_keys.host}/elsewhere"}
        clock.now += 700
        assert layers.send(request).status == 401
        clock.now -= 700
        assert layers.send(request).status == 401


@both_gateways
def test_an_introspection_response_is_used_as_long_as_its_cache_keeps_it(
    gateway: str, clock: Clock, mtls_client: IssuedCertificate
) -> None:
    with IntrospectionServer({TOKEN: active(mtls_client, exp=int(clock.now) + 900)}) as introspection:
        tokens = asking(introspection, cache=MemoryAnswers(), remember_active=60)
        layers = Layers(gateway, lambda module, app: module.protect(app, source=ServerTLS(), tokens=tokens))
        request = Request(tls=mtls_client, headers=[("Authorization", f"Bearer {TOKEN}")])
        cached(layers, request)
        introspection.tokens = {}
        begun = clock.now
        for later, status in ((59, 200), (60, 401), (61, 401), (-1, 401)):
            clock.now = begun + later
            assert layers.send(request).status == status, later


@both_gateways
def test_a_response_in_a_cache_of_the_user_is_asked_for_on_every_request(
    gateway: str, mtls_client: IssuedCertificate
) -> None:
    class Emptied(MemoryAnswers):
        pass

    for kept in (Emptied(), None):
        with IntrospectionServer({TOKEN: active(mtls_client)}) as introspection:
            tokens = asking(introspection, cache=kept)
            layers = Layers(
                gateway, lambda module, app, given=tokens: module.protect(app, source=ServerTLS(), tokens=given)
            )
            request = Request(tls=mtls_client, headers=[("Authorization", f"Bearer {TOKEN}")])
            for _ in range(3):
                assert layers.send(request).status == 200
            introspection.tokens = {}
            if kept is not None:
                kept._records = MemoryAnswers()._records
            assert layers.send(request).status == 401


@both_gateways
def test_a_revoked_token_and_a_revoked_certificate_end_cached_decisions(
    gateway: str, redis_server: RedisServer, world: World
) -> None:
    with redis_server.client() as client:
        revocations = RedisRevocations(client)
        revocations.create()
        until = _date(time.time() + 1000)
        tokens = RevocableTokens(TrustedIssuers([world.issuer.access_tokens()]), revocations)
        first, second = (
            world.issuer.token(certificate=world.client, claims={"jti": each, "iss": world.issuer.issuer})
            for each in ("first", "second")
        )
        by_token = Layers(gateway, world.tokens(tokens=tokens))
        by_rule = Layers(gateway, certificates(ServerTLS(), allow=CLIENT & Presented(revocations.not_revoked)))
        requests = [carrying(world, ("Authorization", f"Bearer {each}")) for each in (first, second)]
        for each in requests:
            cached(by_token, each)
            cached(by_rule, each)
        revocations.revoke(token_id="first", issuer=world.issuer.issuer, until=until)
        until_true(lambda: by_token.send(requests[0]).status == 401)
        assert is_cached(by_token.send(requests[1]))
        revocations.revoke(thumbprint=world.client.thumbprint, until=until)
        until_true(lambda: by_token.send(requests[1]).status == 401)
        assert by_rule.send(requests[0]).status == 403


# Which requests are cached, and which are the same


@both_gateways
def test_preflights_exempt_paths_and_metadata_bypass_the_cache(gateway: str, world: World) -> None:
    address = "https://api.test/.well-known/oauth-protected-resource"
    metadata = protected_resource_metadata(resource="https://api.test", authorization_servers=["https://as.test"])
    layers = Layers(
        gateway, world.tokens(exempt=["/health"], exempt_preflight=True, resource_metadata=metadata, scopes=["read"])
    )
    good = world.bearer(certificate=world.client, scopes=["read"])
    cached(layers, carrying(world, good))
    asked = [("Origin", "https://a.test"), ("Access-Control-Request-Method", "PUT")]
    for _ in range(2):
        preflight = carrying(world, good, *asked, method="OPTIONS")
        assert not is_cached(layers.send(preflight))
        assert not is_cached(layers.send(carrying(world, good, path="/health")))
        assert layers.send(Request(headers=asked, method="OPTIONS")).application.certificate is None
        assert layers.send(Request(path="/health")).application.token is None
        served = layers.send(carrying(world, good, path=address.removeprefix("https://api.test")))
        assert (served.status, served.seen) == (200, None)
        posted = layers.send(carrying(world, good, path=address.removeprefix("https://api.test"), method="POST"))
        assert (posted.status, posted.seen) == (405, None)
        assert layers.send(Request(headers=asked)).status == 401
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            assert is_cached(layers.send(carrying(world, good, method=method)))


@both_gateways
def test_a_path_with_two_readings_is_refused_whatever_is_cached(gateway: str, world: World) -> None:
    rules = {"/": CLIENT, "/admin": Thumbprint("A" * 43), "/api/open": CLIENT}
    layers = Layers(gateway, certificates(ServerTLS(), allow=rules))
    for path in ("/", "/x", "/api/open"):
        cached(layers, Request(tls=world.client, path=path))
    for _ in range(2):
        assert layers.send(Request(tls=world.client, path="/admin")).status == 403
        assert layers.send(Request(tls=world.client, path="/admin", root="/api")).status in (400, 403)
        assert layers.send(Request(tls=world.client, path="/x/../admin")).status == 403


@both_gateways
@pytest.mark.parametrize("what", ["spelling", "twice", "word twice", "blank", "case", "secret", "peer", "odd name"])
def test_a_request_that_differs_in_one_field_is_decided_as_new_layers_do(gateway: str, what: str, world: World) -> None:
    source = Nginx(trusted_proxies=TRUSTED, shared_secret=SECRET)
    wrap = certificates(source, required=True)
    layers, good = Layers(gateway, wrap), [*nginx(world.client), SECRET]
    evil, cert, word = nginx(world.other), good[0], good[1]
    others = {
        "spelling": [[("X_SSL_Client_Cert", evil[0][1]), *good], [("X_SSL_Client_Cert", cert[1]), word, SECRET]],
        "twice": [[evil[0], *good], [*good, evil[0]], [cert, *good]],
        "word twice": [[("X-SSL-Client-Verify", "FAILED:x"), *good], [word, *good]],
        "blank": [[(cert[0], cert[1] + " "), word, SECRET], [cert, (word[0], word[1] + " "), SECRET]],
        "case": [[(cert[0].lower(), cert[1]), (word[0].upper(), word[1]), SECRET], [cert, (word[0], "x"), SECRET]],
        "secret": [[cert, word], [cert, word, (SECRET[0], SECRET[1][:-1])], [cert, word, SECRET, SECRET]],
        "peer": [good],
        "odd name": [[("x-\u00dfl-client-cert", evil[0][1]), *good], [("x-ssl-client-cert ", evil[0][1]), *good]],
    }  # fmt: skip
    for _ in range(2):
        cached(layers, Request(headers=good))
        for headers in others[what]:
            request = Request(headers=headers, peer=STRANGER if what == "peer" else PROXY)
            kept, new = layers.send(request), send(gateway, wrap, request)
            assert (kept.status, thumbprint(kept)) == (new.status, thumbprint(new))
            assert kept.seen is None or new.seen is None or kept.seen.headers == new.seen.headers


@pytest.mark.parametrize("extra", [
    {"REMOTE_ADDR": STRANGER, "werkzeug.proxy_fix.orig": {"REMOTE_ADDR": PROXY}},
    {"REMOTE_ADDR": PROXY, "werkzeug.proxy_fix.orig": {"REMOTE_ADDR": STRANGER}},
    {"PROXY_PROTOCOL": "TCP4"}, {"SERVER_SOFTWARE": "Unknown/1.0"}, {"SERVER_SOFTWARE": "gunicorn/20.0.0"},
    {"SERVER_SOFTWARE": "waitress", "waitress.client_disconnected": bool, "HTTP_X_FORWARDED_FOR": PROXY},
    {"uwsgi.version": b"2.0"}, {"REMOTE_ADDR": None}, {"REMOTE_ADDR": ""}, {"REMOTE_ADDR": f"::ffff:{PROXY}"},
])  # fmt: skip
def test_the_peer_of_this_environ_decides(extra: dict[str, Any], world: World) -> None:
    wrap = certificates(Nginx(trusted_proxies=TRUSTED), required=True)
    layers = Layers("wsgi", wrap)
    cached(layers, behind_nginx(world.client))
    for _ in range(2):
        request = behind_nginx(world.client, extra=extra)
        kept, new = layers.send(request), send("wsgi", wrap, request)
        assert (kept.status, thumbprint(kept)) == (new.status, thumbprint(new))


@pytest.mark.parametrize("extra", [
    {"client": None}, {"client": (PROXY, 0), "headers+": [("X-Forwarded-For", PROXY)]},
    {"client": (PROXY, 4711), "headers+": [("X-Forwarded-For", f"{PROXY}:4711")]},
    {"client": (PROXY, 4711), "headers+": [("X-Forwarded-For", "1"), ("X-Forwarded-Port", "4711")]},
    {"client": (PROXY, 4712)}, {"client": (STRANGER, 50_000)}, {"client": ("", 0), "server": ("/run/app.sock", None)},
    {"wsgi_environ": {"REMOTE_ADDR": STRANGER}}, {"wsgi.environ": None}, {"environ": {"SERVER_SOFTWARE": "x"}},
])  # fmt: skip
def test_the_peer_of_this_scope_decides(extra: dict[str, Any], world: World) -> None:
    wrap = certificates(Nginx(trusted_proxies=TRUSTED), required=True)
    layers = Layers("asgi", wrap)
    cached(layers, behind_nginx(world.client))
    for _ in range(2):
        rest = {key: value for key, value in extra.items() if key != "headers+"}
        request = behind_nginx(world.client, extra=rest).with_headers(*extra.get("headers+", ()))
        kept, new = layers.send(request), send("asgi", wrap, request)
        assert (kept.status, thumbprint(kept)) == (new.status, thumbprint(new))


@pytest.mark.parametrize("change", [
    lambda tls: {**tls, "client_cert_error": ""}, lambda tls: {**tls, "client_cert_error": False},
    lambda tls: {**tls, "client_cert_error": 0}, lambda tls: {**tls, "client_cert_error": ["x"]},
    lambda tls: {**tls, "client_cert_chain": iter(tls["client_cert_chain"])},
    lambda tls: {**tls, "client_cert_chain": {"x": 1}}, lambda tls: {**tls, "client_cert_chain": None},
    lambda tls: {**tls, "client_cert_chain": tls["client_cert_chain"] * 2},
    lambda tls: {**tls, "client_cert_chain": [each.encode() for each in tls["client_cert_chain"]]},
    lambda tls: {**tls, "client_cert_chain": [[]]}, lambda tls: {**tls, "client_cert_chain": 1},
    lambda tls: {**tls, "client_cert_chain": "".join(tls["client_cert_chain"])},
    lambda tls: {**tls, "client_cert": b"x"}, lambda tls: {**tls, "client_cert": "x"},
    lambda tls: {**tls, "client_cert": bytearray(b"x")}, lambda tls: [*tls.items()], lambda _: {}, lambda _: None,
])  # fmt: skip
def test_unusual_tls_facts_get_the_same_decision_from_the_cache(change: Any, world: World) -> None:
    wrap = certificates(ServerTLS(), required=True)
    layers, tls = Layers("asgi", wrap), world.client.as_tls_extension()
    cached(layers, Request(tls=world.client))
    for _ in range(2):
        kept, new = (
            each(Request(extra={"extensions": {"tls": change(tls)}}))
            for each in (layers.send, lambda request: send("asgi", wrap, request))
        )
        assert (kept.status, thumbprint(kept)) == (new.status, thumbprint(new))


@pytest.mark.parametrize("change", [
    {"SSL_CLIENT_VERIFY": "NONE"}, {"SSL_CLIENT_VERIFY": "FAILED:x"}, {"SSL_CLIENT_VERIFY": None},
    {"SSL_CLIENT_VERIFY": True}, {"SSL_CLIENT_CERT_CHAIN_0": "x"}, {"SSL_CLIENT_CERT_CHAIN_7": ""},
    {"SSL_CLIENT_CERT_CHAIN_\u0663": "x"}, {"HTTPS_CC": "x"}, {"HTTPS_CLIENT_CERTIFICATE": "x"}, {"HTTPS_CC": ["x"]},
    {"SSL_CLIENT_CERT": b"x"}, {"SSL_CLIENT_CERT": ""}, {"gunicorn.socket": object()}, {"HTTP_SSL_CLIENT_CERT": "x"},
])  # fmt: skip
def test_unusual_tls_variables_get_the_same_decision_from_the_cache(change: dict[str, Any], world: World) -> None:
    wrap = certificates(ServerTLS(), required=True)
    layers = Layers("wsgi", wrap)
    cached(layers, Request(tls=world.client))
    for _ in range(2):
        request = Request(tls=world.client, extra=change)
        kept, new = layers.send(request), send("wsgi", wrap, request)
        assert (kept.status, thumbprint(kept)) == (new.status, thumbprint(new))


def test_headers_of_other_types_are_read_as_bytes(world: World) -> None:
    layers = Layers("asgi", certificates(Nginx(trusted_proxies=TRUSTED), required=True))
    good = [(name.lower().encode(), value.encode()) for name, value in nginx(world.client)]
    evil = [(name.lower().encode(), value.encode()) for name, value in nginx(world.client, "FAILED:x")]
    for kind in (bytes, bytearray, memoryview):
        for fields, status in ((good, 200), (evil, 403), (good, 200)):
            made = [[kind(name), kind(value)] for name, value in fields]
            assert layers.send(Request(extra={"headers": made})).status == status


@both_gateways
def test_an_authorization_field_is_compared_as_a_whole(gateway: str, world: World) -> None:
    layers = Layers(gateway, world.tokens())
    name, good = world.bearer(certificate=world.client)
    cached(layers, carrying(world, (name, good)))
    for value in (f"{good}x", f"{good}=", good[:-1], f"{good}, {good}", f"{good}\u00e9", f" {good}", good.lower(), ""):
        for _ in range(2):
            assert layers.send(carrying(world, (name, value))).status in (400, 401)
    assert layers.send(carrying(world, (name, good), (name, good))).status == 400
    assert layers.send(carrying(world, (name, good), query="a=b&access%5ftoken=x")).status == 400
    assert layers.send(Request(tls=world.other, headers=[(name, good)])).status == 401
    assert layers.send(Request(headers=[(name, good)])).status == 401


@both_gateways
def test_two_clients_at_once_are_never_taken_for_each_other(gateway: str, world: World) -> None:
    """Many threads, or many tasks, through one stack: the cache is filled while it is read."""
    requests = [
        Request(tls=client, headers=[world.bearer(certificate=bound, claims={"sub": client.thumbprint})])
        for client in (world.client, world.other)
        for bound in (client, world.client if client is world.other else world.other)
    ]
    module, wrong = MODULES[gateway], list[Any]()

    def told(carrier: Any) -> Any:
        return client_certificate(carrier).thumbprint, access_token(carrier).subject  # type: ignore[union-attr] (both are there, or the test fails)

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return ["".join(told(environ)).encode()]

    async def awaited(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": "".join(told(scope)).encode()})

    made = world.tokens()(module, application if gateway == "wsgi" else awaited)

    def ask_wsgi(request: Request) -> tuple[int, bytes]:
        started: list[str] = []
        body = b"".join(made(environ_of(request), lambda status, *_: started.append(status)))
        return int(started[0][:3]), body

    async def ask_asgi(request: Request) -> tuple[int, bytes]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await made(scope_of(request), None, send)
        return sent[0]["status"], sent[1]["body"]

    def check(number: int, answer: tuple[int, bytes]) -> None:
        client = world.client if number < 2 else world.other
        expected = 401 if number % 2 else 200
        if answer[0] != expected or (expected == 200 and answer[1] != (client.thumbprint * 2).encode()):
            wrong.append((number, answer))

    def run(seed: int) -> None:
        for turn in range(200):
            number = (seed + turn * 7) % 4
            check(number, ask_wsgi(requests[number]))
            if turn % 50 == 49:
                made._stack._cache._entries.share(CacheMemory(10**6))

    async def run_all() -> None:
        numbers = [number % 4 for number in range(400)]
        for number, answer in zip(
            numbers, await asyncio.gather(*(ask_asgi(requests[each]) for each in numbers)), strict=True
        ):
            check(number, answer)

    if gateway == "asgi":
        asyncio.run(run_all())
        asyncio.run(run_all())
    else:
        threads = [threading.Thread(target=run, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_an_open_websocket_is_never_decided_by_the_cache(world: World) -> None:
    app = MODULES["asgi"].protect(_accepting, source=ServerTLS(), tokens=world.issuer.access_tokens())
    good = carrying(world, world.bearer(certificate=world.client))
    for _ in range(3):
        exchange(app, scope_of(good), [{"type": "http.request", "body": b""}])
    scope = scope_of(good, "websocket")
    sent = exchange(app, scope, [{"type": "websocket.connect"}])
    assert sent[0]["type"] == "websocket.accept"
    assert not scope[ATTACHED_KEY].cached
    refused = exchange(app, scope_of(replace(good, tls=world.other), "websocket"), [{"type": "websocket.connect"}])
    assert refused[0]["type"] == "websocket.close"


async def _accepting(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@both_gateways
def test_a_dispatcher_that_retries_gets_each_applications_own_decision(gateway: str, world: World) -> None:
    """With the same environ or scope, in which the first application's layers left their findings."""
    first_app, second_app = [list[Any]() for _ in range(2)]
    kept: list[Any] = []

    def wrap(module: Any, app: Any) -> Any:
        first_app[:], second_app[:] = [_nothing(module)], [app]
        if not kept:
            kept.append(module.ClientCertificateMiddleware(relay(module, first_app), Nginx(trusted_proxies=TRUSTED)))
            kept.append(
                module.protect(relay(module, second_app), source=ServerTLS(), tokens=world.issuer.access_tokens())
            )
        return _one_after_the_other(module, *kept)

    good = world.bearer(certificate=world.client)
    for _ in range(3):
        for tls, headers, client in (
            (world.client, [*nginx(world.other), good], world.client),
            (world.other, [*nginx(world.client), good], None),
            (None, [*nginx(world.client), good], None),
            (world.client, [*nginx(world.other)], None),
        ):
            result = send(gateway, wrap, Request(tls=tls, headers=headers))
            assert thumbprint(result) == (None if client is None else client.thumbprint)


def _nothing(module: Any) -> Any:
    async def awaited(scope: Any, receive: Any, send: Any) -> None:
        return None

    return (lambda environ, start_response: []) if module is MODULES["wsgi"] else awaited


def _one_after_the_other(module: Any, first: Any, second: Any) -> Any:
    def called(environ: Any, start_response: Any) -> Any:
        assert list(first(environ, start_response)) == []
        return second(environ, start_response)

    async def awaited(scope: Any, receive: Any, send: Any) -> None:
        await first(scope, receive, send)
        await second(scope, receive, send)

    return called if module is MODULES["wsgi"] else awaited


@both_gateways
def test_nothing_that_an_application_can_change_reaches_the_next_request(gateway: str, world: World) -> None:
    layers = Layers(gateway, world.tokens())
    claims = {"roles": ["reader"], "more": {"a": [{"b": "c"}]}}
    request = carrying(world, world.bearer(certificate=world.client, claims=claims), ("X-Other", "other"))
    seen = cached(layers, request).application
    certificate, token = seen.certificate, seen.token
    assert certificate is not None
    assert token is not None
    changes: list[Callable[[Any, Any], Any]] = [
        lambda token, _: token.claims.update(roles=["admin"]), lambda token, _: token.claims["roles"].append("admin"),
        lambda token, _: token.claims["more"]["a"][0].update(b="d"), lambda token, _: token.scopes.add("admin"),
        lambda token, _: setattr(token, "subject", "admin"), lambda token, _: setattr(token, "tenant", "admin"),
        lambda _, found: setattr(found, "verification", Verification.PRESENTED), lambda _, found: delattr(found, "pem"),
        lambda _, found: setattr(found, "tenant", "admin"), lambda _, found: found.dns_names.append("admin"),
        lambda _, found: found.chain.append(b""),
    ]  # fmt: skip
    for change in changes:
        with pytest.raises((AttributeError, TypeError)):
            change(token, certificate)
    before = dict(seen.headers)
    for key in ("mtls_middleware.certificate", "mtls_middleware.token"):
        seen.carrier[key] = None  # type: ignore[index] (a request was seen, or the test fails)
    seen.carrier[ATTACHED_KEY].certificate = seen.carrier[ATTACHED_KEY].token = None
    if gateway == "asgi":
        seen.carrier["headers"].clear()
    result = layers.send(request)
    assert is_cached(result)
    assert result.application.certificate is certificate
    assert result.application.token == token
    assert result.application.headers == before


@both_gateways
def test_a_layer_that_reads_the_body_decides_behind_cached_layers(gateway: str, world: World) -> None:
    module, names = MODULES[gateway], {"one": "client.example.test", "two": "other.example.test"}
    clients = {
        each: RegisteredClient(
            client_id=each, token_endpoint_auth_method="tls_client_auth", tls_client_auth_san_dns=name
        )
        for each, name in names.items()
    }
    seen: list[Any] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        seen.append((oauth_client(environ), client_certificate(environ)))
        start_response("200 OK", [])
        return []

    async def awaited(scope: Any, receive: Any, send: Any) -> None:
        seen.append((oauth_client(scope), client_certificate(scope)))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    inner = module.ClientAuthenticationMiddleware(
        application if gateway == "wsgi" else awaited, ClientAuthenticator(clients)
    )
    app = module.ClientCertificateMiddleware(inner, ServerTLS(), required=False)

    def ask(tls: IssuedCertificate | None, client_id: str) -> int:
        body = f"client_id={client_id}&grant_type=client_credentials".encode()
        form = ("Content-Type", "application/x-www-form-urlencoded")
        request = Request(method="POST", path="/token", tls=tls, headers=[form])
        if gateway == "asgi":
            found: int = exchange(app, scope_of(request), [{"type": "http.request", "body": body}])[0]["status"]
            return found
        started: list[str] = []
        of_body = {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": form[1]}
        list(app(environ_of(request) | of_body, lambda status, *_: started.append(status)))
        return int(started[0][:3])

    for _ in range(3):
        for tls, client_id in ((world.client, "one"), (world.other, "two")):
            assert ask(tls, client_id) == 200
            client, certificate = seen.pop()
            assert (client.client_id, certificate.thumbprint) == (client_id, tls.thumbprint)
        for stranger, client_id in ((world.client, "two"), (world.other, "one"), (None, "one")):
            assert ask(stranger, client_id) == 401
    assert seen == []
    assert len(app._stack._cache._entries) == 2


@both_gateways
def test_the_cost_of_a_huge_header_grows_no_faster_than_its_size(gateway: str, world: World) -> None:
    layers = Layers(gateway, world.tokens(source=Nginx(trusted_proxies=TRUSTED)))
    layers.send(behind_nginx(world.client))
    recall = stack_of(layers)._cache.recall

    def prepare(size: int) -> Callable[[], object]:
        huge = [("X-SSL-Client-Cert", "x" * size), ("Authorization", "Bearer " + "x" * size)]
        made = Request(headers=huge, peer=STRANGER)
        if gateway == "asgi":
            return lambda: recall(ASGIRequest(scope_of(made)))
        return lambda: recall(WSGIRequest(environ_of(made)))

    assert_grows_with_size(prepare, 1_600_000)


# The memory of a stack


@both_gateways
def test_all_caches_of_a_stack_share_one_limit(gateway: str, world: World, mtls_ca: CertificateAuthority) -> None:
    source, store = Nginx(trusted_proxies=TRUSTED), TrustStore([mtls_ca.certificate])
    tokens = world.issuer.access_tokens()
    several = TrustedIssuers([tokens])
    layers = Layers(gateway, world.tokens(source=source, trust_store=store, tokens=several, cache_size=100_000))
    for number in range(30):
        bearer = world.bearer(certificate=world.client, claims={"jti": str(number)})
        assert layers.send(Request(headers=[*nginx(world.client), bearer])).status == 200
    memory = stack_of(layers)._cache._entries.memory
    assert memory.limit == 100_000
    assert source._certificates.memory is store._paths.memory is tokens._cache.memory is memory
    assert len(source._certificates) == len(store._paths) == 1
    assert 0 < len(tokens._cache) < 30
    assert memory.size <= memory.limit


@both_gateways
@pytest.mark.parametrize(
    ("outer", "inner", "limit"),
    [(None, None, 2**26), (10**5, None, 10**5), (None, 10**5, 10**5), (10**5, 10**6, 10**6)],
)
def test_the_largest_size_that_a_layer_was_given_is_that_of_the_stack(
    gateway: str, outer: int | None, inner: int | None, limit: int, world: World
) -> None:
    module = MODULES[gateway]
    tokens = module.CertificateBoundTokenMiddleware(relay(module, []), world.issuer.access_tokens(), cache_size=inner)
    app = module.ClientCertificateMiddleware(tokens, ServerTLS(), cache_size=outer)
    assert app._stack._cache._entries.memory.limit == limit


@both_gateways
def test_a_stack_without_memory_decides_every_request_anew(gateway: str, world: World) -> None:
    layers = Layers(gateway, world.tokens(cache_size=0))
    request = carrying(world, world.bearer(certificate=world.client))
    for _ in range(3):
        result = layers.send(request)
        assert result.status == 200
        assert not is_cached(result)
    assert len(stack_of(layers)._cache._entries.memory) == 0


@both_gateways
@pytest.mark.parametrize("size", [-1, 1.5, "64 MB", True, False, 64, 65_535, 2**41])
def test_a_size_that_is_no_number_of_bytes_is_rejected(gateway: str, size: Any, world: World) -> None:
    with pytest.raises(ConfigurationError, match="cache_size="):
        Layers(gateway, world.tokens(cache_size=size)).send(Request())


@both_gateways
def test_each_cache_of_a_memory_has_keys_of_its_own(gateway: str, world: World, mtls_ca: CertificateAuthority) -> None:
    source = Nginx(trusted_proxies=TRUSTED)
    layers = Layers(gateway, world.tokens(source=source, trust_store=TrustStore([mtls_ca.certificate])))
    request = Request(headers=[*nginx(world.client), world.bearer(certificate=world.client)])
    cached(layers, request)
    memory = stack_of(layers)._cache._entries.memory
    owners = [owner for owner, _ in memory]
    assert len(owners) == len(set(owners)) == 4  # decisions, certificates, tokens and paths
