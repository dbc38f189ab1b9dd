"""What lives long decides as what is new does: layers that remember, asked in any order, and layers of one request."""

import base64
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mtls_middleware.policy import Presented, Subject, Thumbprint
from mtls_middleware.sources import Caddy, Cloudflare, Nginx, ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from mtls_middleware.testing.authority import self_signed
from mtls_middleware.validation import TrustStore
from tests.gateways import MODULES, PROXY, STRANGER, Outcome, Request, both_gateways, send

SECRET = ("X-Proxy-Secret", "a secret of the proxy")
TRUST: dict[str, Any] = {"trusted_proxies": ["10.0.0.0/8"]}
SOURCES: list[Callable[[], Any]] = [
    ServerTLS,
    lambda: Nginx(**TRUST),
    lambda: Nginx(shared_secret=SECRET, **TRUST),
    lambda: Nginx(proxy_certificate=Subject("CN=other,O=Tests")),
    lambda: Caddy(verified_by_proxy=True, **TRUST),
    lambda: Cloudflare(**TRUST),
    lambda: Nginx(certificate_header="X-Own", verify_header="X-Own-Verify", **TRUST),  # which no other layer drops
]
CLIENT = Subject("CN=client,O=Tests")


class Drawn:
    """Layers and requests, by one seed."""

    def __init__(self, seed: int, ca: CertificateAuthority, people: list[IssuedCertificate]) -> None:
        self._dice, self._ca, self._people = random.Random(seed), ca, people
        self.turn = 0

    def stack(self) -> Callable[[], Callable[[Any, Any], Any]]:
        """What makes two layers around an application, one gateway or two; each time of new parts, but alike."""
        pick, makers = self._dice.choice, [self._dice.choice(SOURCES) for _ in range(2)]
        shared, fused = self._dice.random() < 0.5, self._dice.random() < 0.5
        options = [
            {"exempt": pick([(), ("/health",)]), "required": pick([None, True, False]), **pick(self._judges())}
            for _ in range(2)
        ]
        for each in options:
            if isinstance(each.get("allow"), Mapping) and each["required"] is False:
                each["required"] = None  # the two exclude each other

        def made() -> Callable[[Any, Any], Any]:
            sources = [make() for make in makers]
            used = [sources[0], sources[0] if shared else sources[1]]
            kept = [
                {name: value() if name == "trust_store" else value for name, value in each.items()} for each in options
            ]

            def wrap(module: Any, app: Any) -> Any:
                inner = module.ClientCertificateMiddleware(app, used[1], **kept[1])
                return module.ClientCertificateMiddleware(
                    inner if fused else relay(module, [inner]), used[0], **kept[0]
                )

            return wrap

        return made

    def _judges(self) -> list[Mapping[str, Any]]:
        rules: list[Any] = [CLIENT, ~CLIENT, Presented(CLIENT), lambda _: self.turn % 2 == 0]
        rules += [CLIENT & rules[3], CLIENT | Thumbprint(self._people[1].thumbprint)]
        rules.append({"/admin": Thumbprint(self._people[1].thumbprint), "/": rules[4]})
        store = {"trust_store": lambda: TrustStore([self._ca.certificate])}
        return [{}, store, *({"allow": each} for each in rules), {"allow": CLIENT, **store}]

    def request(self) -> Request:
        pick, person = self._dice.choice, self._dice.choice(self._people)
        nginx, der = person.as_nginx()["X-SSL-Client-Cert"], base64.b64encode(person.der).decode()
        lines = [
            [], [("X-SSL-Client-Cert", nginx)], [("X-SSL-Client-Cert", der)], [("X_SSL_Client_Cert", nginx)],
            [("X-Own", nginx), ("X-Own-Verify", pick(["SUCCESS", "FAILED:self signed certificate"]))],
            [("Cf-Client-Cert-Der-Base64", der), ("Cf-Cert-Verified", pick(["true", "false"]))],
        ]  # fmt: skip
        further = [
            [], [SECRET], [("X-SSL-Client-Verify", "SUCCESS")], [("X-SSL-Client-Verify", "SUCCESS"), SECRET],
            [("X-SSL-Client-Verify", "FAILED:self signed certificate"), SECRET], [("Cf-Cert-Revoked", "true")],
        ]  # fmt: skip
        headers = [*pick(lines), *pick(further), *pick([[], [("Accept", "*/*")], [("X-Forwarded-For", PROXY)]])]
        self._dice.shuffle(headers)
        return Request(
            headers=headers,
            path=pick(["/", "/admin", "/health", "/admin;x"]),
            peer=pick([PROXY, PROXY, PROXY, STRANGER, None]),
            tls=pick([None, person, person, *self._people]),
            verified=pick([True, True, False]),
        )


def relay(module: Any, inner: list[Any]) -> Any:
    """Whichever application is in the list, behind a middleware that is not ours: so ours are no gateway together."""

    def called(environ: Any, start_response: Any) -> Any:
        return inner[0](environ, start_response)

    async def awaited(scope: Any, receive: Any, send: Any) -> None:
        await inner[0](scope, receive, send)

    return called if module is MODULES["wsgi"] else awaited


def standing(wrap: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The layers of `wrap`, made once, around whichever application is given."""
    made: list[Any] = []
    current: list[Any] = []

    def again(module: Any, app: Any) -> Any:
        current[:] = [app]
        if not made:
            made.append(wrap(module, relay(module, current)))
        return made[0]

    return again


def observation(result: Outcome) -> Any:
    seen = result.seen
    found = None if seen is None or seen.certificate is None else (seen.certificate, seen.certificate.verification)
    return result.status, found, None if seen is None else seen.headers


@pytest.fixture(scope="module")
def people(mtls_ca: CertificateAuthority) -> list[IssuedCertificate]:
    return [mtls_ca.issue("CN=client,O=Tests"), mtls_ca.issue("CN=other,O=Tests"), self_signed("CN=client,O=Tests")]


@both_gateways
@pytest.mark.parametrize("seed", range(30))
def test_no_request_is_decided_by_what_others_left_behind(
    gateway: str, seed: int, mtls_ca: CertificateAuthority, people: list[IssuedCertificate]
) -> None:
    drawn = Drawn(seed, mtls_ca, people)
    make = drawn.stack()
    requests = [drawn.request() for _ in range(40)]
    lasting, answers = standing(make()), []
    for drawn.turn, request in enumerate(requests):
        answers.append(observation(send(gateway, lasting, request)))
    for drawn.turn, request in enumerate(requests):
        assert answers[drawn.turn] == observation(send(gateway, make(), request))
