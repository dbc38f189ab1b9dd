"""What is remembered of one request, asked by another that differs in a single thing."""

import base64
import gc
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mtls_middleware import ClientCertificate, Verification, binding, wsgi
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import Refused
from mtls_middleware.layers.paths import PathRules
from mtls_middleware.policy import Subject, Thumbprint
from mtls_middleware.resource_server import AccessToken
from mtls_middleware.rule import Rule
from mtls_middleware.sources import Cloudflare, HAProxy, Nginx, ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.environs import KNOWN_SERVER
from tests.gateways import MODULES, STRANGER, Request, both_gateways, send
from tests.request_view import View

TRUST: dict[str, Any] = {"trusted_proxies": ["10.0.0.0/8"]}
SECRET = ("X-Proxy-Secret", "a secret of the proxy")
CLIENT = Subject("CN=client,O=Tests")

Sends = Callable[[Request], int]


def sends(gateway: str, **options: Any) -> Sends:
    """Requests through one and the same layer, so that it may remember."""
    inner: list[Any] = []
    outer = MODULES[gateway].ClientCertificateMiddleware(_relay(gateway, inner), **options)

    def one(request: Request) -> int:
        def wrap(_: Any, app: Any) -> Any:
            inner[:] = [app]
            return outer

        return send(gateway, wrap, request).status

    return one


def _relay(gateway: str, inner: list[Any]) -> Any:
    def called(environ: Any, start_response: Any) -> Any:
        return inner[0](environ, start_response)

    if gateway == "wsgi":
        return called

    async def relayed(scope: Any, receive: Any, send: Any) -> None:
        await inner[0](scope, receive, send)

    return relayed


@both_gateways
def test_a_cached_certificate_is_judged_by_the_facts_of_this_request(
    gateway: str, mtls_client: IssuedCertificate
) -> None:
    source = Nginx(shared_secret=SECRET, **TRUST)
    ask = sends(gateway, source=source, allow={"/admin": Thumbprint("A" * 43), "/": CLIENT})
    fields = mtls_client.as_nginx()
    good = Request(headers=[*fields.items(), SECRET])
    certificate, word = ("X-SSL-Client-Cert", fields["X-SSL-Client-Cert"]), ("X-SSL-Client-Verify", "SUCCESS")
    for _ in range(2):
        assert ask(good) == 200
        for headers, status in (
            ([certificate, SECRET], 400),
            ([certificate, ("X-SSL-Client-Verify", "NONE"), SECRET], 400),
            ([certificate, ("X-SSL-Client-Verify", ""), SECRET], 400),
            ([certificate, ("X-SSL-Client-Verify", "FAILED:self signed certificate"), SECRET], 403),
            ([certificate, ("X-SSL-Client-Verify", "success"), SECRET], 400),
            ([certificate, certificate, word, SECRET], 400),
            ([certificate, word], 403),
            ([certificate, word, (SECRET[0], SECRET[1] + "x")], 403),
            ([certificate, word, SECRET, SECRET], 403),
            ([word, SECRET], 400),
        ):
            assert ask(Request(headers=headers)) == status
        assert ask(Request(headers=good.headers, peer=STRANGER)) == 403
        assert ask(Request(headers=good.headers, peer=None)) == 403
        assert ask(Request(headers=good.headers, path="/admin")) == 403


@both_gateways
def test_a_chain_is_part_of_what_is_remembered(gateway: str, mtls_client: IssuedCertificate) -> None:
    source = HAProxy(chain_header="X-SSL-Client-Chain", **TRUST)
    ask = sends(gateway, source=source, allow=CLIENT)
    base64_der = base64.b64encode(mtls_client.der).decode()
    good = Request(headers=[("X-SSL-Client-Cert", base64_der), ("X-SSL-Client-Verify", "SUCCESS")])
    assert ask(good) == 200
    assert ask(good.with_headers(("X-SSL-Client-Chain", "A"))) == 400
    assert ask(good) == 200


@both_gateways
@pytest.mark.parametrize(("name", "value", "status"), [
    ("Cf-Cert-Revoked", "true", 403), ("Cf-Cert-Revoked", "", 403), ("Cf-Cert-Revoked", "false", 200),
    ("Cf-Client-Cert-Sha256", "00" * 32, 400),
])  # fmt: skip
def test_cloudflares_verification_field_is_read_on_every_request(
    gateway: str, name: str, value: str, status: int, mtls_client: IssuedCertificate
) -> None:
    ask = sends(gateway, source=Cloudflare(**TRUST), allow=CLIENT)
    base64_der = base64.b64encode(mtls_client.der).decode()
    good = Request(headers=[("Cf-Client-Cert-Der-Base64", base64_der), ("Cf-Cert-Verified", "true")])
    others = [pair for pair in good.headers if pair[0].lower() != name.lower()]
    for _ in range(2):
        assert ask(good) == 200
        assert ask(Request(headers=[*others, (name, value)])) == status


def test_each_path_has_its_own_rule(mtls_client: IssuedCertificate) -> None:
    certificate = mtls_client.client_certificate()
    rules = PathRules({"/a": CLIENT, "/b": ~CLIENT, "/c": Subject("CN=client"), "/": CLIENT & ~CLIENT})

    def allowed(path: str) -> bool:
        view: Any = View("GET", path, "", lambda _: [], None, None, None, 0.0)
        try:
            rule = rules.rules[rules.position(view)]
        except Refused:
            return False
        return isinstance(rule, Rule) and rule.holds(certificate)

    for _ in range(2):
        assert [allowed(path) for path in ("/a", "/b", "/c", "/")] == [True, False, False, False]


def test_a_layer_without_references_is_garbage_collected(mtls_client: IssuedCertificate) -> None:
    """What remembers must not keep its layer: applications of tests, and of tenants, come and go."""
    layer = wsgi.ClientCertificateMiddleware(lambda *_: [], Nginx(**TRUST), allow=CLIENT & ~Thumbprint("A" * 43))
    environ = {"REMOTE_ADDR": "10.0.0.7", "REQUEST_METHOD": "GET", "PATH_INFO": "/", **KNOWN_SERVER}
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in mtls_client.as_nginx().items()}
    layer(environ, lambda *_: lambda _: None)
    (inner,) = layer._layers
    held = [weakref.ref(each) for each in (layer, inner, inner.source)]
    del inner
    del layer
    gc.collect()
    assert [each() for each in held] == [None, None, None]


@both_gateways
def test_an_outer_verification_applies_to_a_cached_certificate(gateway: str, mtls_client: IssuedCertificate) -> None:
    inner = Nginx(certificate_header="X-Own", verify_header="X-Own-Verify", **TRUST)  # names that no other layer drops

    def wrap(module: Any, app: Any) -> Any:
        return module.ClientCertificateMiddleware(standing(module, app), ServerTLS())

    made: list[Any] = []
    reached: list[Any] = []

    def standing(module: Any, app: Any) -> Any:
        reached[:] = [app]
        if not made:
            made.append(module.ClientCertificateMiddleware(_relay(gateway, reached), inner, required=False))
        return made[0]

    fields = [
        ("X-Own", mtls_client.as_nginx()["X-SSL-Client-Cert"]),
        ("X-Own-Verify", "FAILED:self signed certificate"),
    ]
    for tls, verification in ((None, Verification.PRESENTED), (mtls_client, Verification.BY_SERVER)) * 2:
        found = send(gateway, wrap, Request(headers=fields, tls=tls)).application.certificate
        assert found is not None
        assert found.verification is verification


# Tokens


@pytest.fixture
def judged(mtls_issuer: TokenIssuer, mtls_client: IssuedCertificate) -> AccessToken:
    tokens, text = mtls_issuer.access_tokens(), mtls_issuer.token(certificate=mtls_client)
    driver = BlockingDriver()
    for _ in range(2):
        token: AccessToken = driver.run(tokens.validate(text, time.time()))
    return token


def test_one_token_among_many_threads_is_bound_to_its_certificate_alone(
    judged: AccessToken, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    good, other = mtls_client.client_certificate(), mtls_other_client.client_certificate()
    wrong: list[Any] = []
    start = threading.Barrier(8)

    def compare(certificate: ClientCertificate | None) -> None:
        start.wait()
        for _ in range(500):
            try:
                passed: Any = binding.confirm(judged.claims, certificate, "when_present") is not None
            except Refused:
                passed = None
            if passed != (True if certificate is good else None):
                wrong.append(passed)

    threads = [threading.Thread(target=compare, args=(each,)) for each in (good, other, None, good) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_was_read_in_one_token_is_not_taken_over_by_another(
    judged: AccessToken, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    good, other = mtls_client.client_certificate(), mtls_other_client.client_certificate()
    for token in (judged, replace(judged, bound=True, confirmation=good.thumbprint)):
        foreign = replace(token, claims={**judged.claims, "cnf": {"x5t#S256": other.thumbprint}})
        with pytest.raises(Refused):
            binding.confirm(foreign.claims, good, "required")
        unbound = replace(token, claims={name: judged.claims[name] for name in judged.claims if name != "cnf"})
        with pytest.raises(Refused):
            binding.confirm(unbound.claims, good, "required")
    confirmation = binding.confirm(judged.claims, good, "required")
    assert confirmation is not None
    assert confirmation.thumbprint == good.thumbprint
    assert not judged.bound


def test_layers_that_share_a_validator_demand_each_their_own(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    tokens = mtls_issuer.access_tokens()

    def layer(gateway: str, **options: Any) -> Callable[[Request], int]:
        def wrap(module: Any, app: Any) -> Any:
            inner = module.CertificateBoundTokenMiddleware(app, tokens, **options)
            return module.ClientCertificateMiddleware(inner, ServerTLS())

        return lambda request: send(gateway, wrap, request).status

    unbound = [("Authorization", f"Bearer {mtls_issuer.token(scopes=['read'])}")]
    bound = [("Authorization", f"Bearer {mtls_issuer.token(certificate=mtls_client, scopes=['read'])}")]
    for gateway in ("wsgi", "asgi"):
        lax, strict = layer(gateway, binding="when_present"), layer(gateway, binding="required")
        reads, writes = layer(gateway, scopes=["read"]), layer(gateway, scopes=["write"])
        for _ in range(2):
            assert lax(Request(headers=unbound)) == 200
            assert strict(Request(headers=unbound, tls=mtls_client)) == 401
            assert lax(Request(headers=bound)) == 401
            assert reads(Request(headers=bound, tls=mtls_client)) == 200
            assert writes(Request(headers=bound, tls=mtls_client)) == 403


@pytest.mark.parametrize("shift", [-86_400.0, -700.0, -61.0, 0.0, 400.0, 86_400.0, float("inf"), float("-inf")])
def test_a_cached_token_is_valid_only_within_its_own_lifetime(
    shift: float, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    tokens, driver, now = mtls_issuer.access_tokens(), BlockingDriver(), time.time()
    text = mtls_issuer.token(certificate=mtls_client)
    assert driver.run(tokens.validate(text, now))
    if shift == 0:
        assert driver.run(tokens.validate(text, now + shift))
        return
    with pytest.raises(Refused):
        driver.run(tokens.validate(text, now + shift))
