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
from mtls_middleware import sources
from mtls_middleware.asgi_request import ASGIRequest
from mtls_middleware.effects.flow import BlockingDriver, Flow
from mtls_middleware.layers.attached import ATTACHED_KEY
from mtls_middleware.layers.certificate import CertificateLayer
from mtls_middleware.layers.interface import DeclaredView, Facts, Route, UndeclaredFact
from mtls_middleware.layers.token import TokenLayer
from mtls_middleware.policy import DNSName, Presented, Subject, Thumbprint
from mtls_middleware.policy.rule import All, Not, Rule
from mtls_middleware.resource_server import JWTAccessTokens, MemoryAnswers, TrustedIssuers
from mtls_middleware.sources import Nginx, ServerTLS, server
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from mtls_middleware.token_endpoint import ClientAuthenticator
from mtls_middleware.validation import RevocationLists, TrustStore
from mtls_middleware.validation import store as store_module
from mtls_middleware.validation.crl import RevocationList
from mtls_middleware.wsgi_request import WSGIRequest
from tests.attacks.test_fresh import relay
from tests.gateways import (
    MODULES,
    PROXY,
    STRANGER,
    Request,
    Result,
    both_gateways,
    environ_of,
    exchange,
    scope_of,
    send,
)
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
    certificate = server.read(facts)
    assert certificate is not None
    assert certificate.chain == (world.other.der,)


@both_gateways
@pytest.mark.parametrize(
    "read",
    [
        lambda view: view.peer, lambda view: view.tls, lambda view: view.query, lambda view: view.method,
        lambda view: view.path, lambda view: view.location, lambda view: view.body, lambda view: view.field_names(),
        lambda view: view.headers("accept"), lambda view: view.headers("authorization"), lambda view: view.headers("x-owner"),
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
            found = server.read(view.tls)
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
