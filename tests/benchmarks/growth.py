"""Measure 6: what a request costs where little is registered, revoked, trusted, and where much is."""

import itertools
import random
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from mtls_middleware.policy import DNSName
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.rule import AnyOf
from mtls_middleware.sources import ClientCertHeader
from mtls_middleware.token_endpoint import ClientAuthenticator, RegisteredClient
from mtls_middleware.validation import RevocationLists, TrustStore
from mtls_middleware.wsgi import ClientAuthenticationMiddleware, ClientCertificateMiddleware
from tests.benchmarks import revoked, stacks
from tests.benchmarks.carriers import WSGI, Application
from tests.benchmarks.loop import Size, Subject, take_turns
from tests.benchmarks.table import Row, microseconds

GOAL = 1.3
_GATEWAY = WSGI()
Requests = Callable[[int], Any]


@dataclass(frozen=True, slots=True)
class Growth:
    """One thing that grows: `wrap(application, number)` gives the layers, and the requests that go through them."""

    what: str
    least: int
    most: int
    wrap: Callable[[Any, int], tuple[Any, Requests]]
    note: str = ""


def rows(quick: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as open_until_the_end:
        growths = [
            Growth("registered clients", 10, 1_000_000, _clients, "a dict; requests of 1,000 clients all over it"),
            Growth("serials in a revocation list", 10, 1_000_000, _serials(Path(folder)), "a file, each request asks"),
            Growth("ids on the list in Redis", 10, 1_000_000, _ids(open_until_the_end), "the set of this process"),
            Growth("trusted networks", 1, 1000, _networks, "of six sizes; each request from another peer"),
            Growth("keys in the JWK Set", 1, 1000, _keys, "each request has a new token"),
            Growth("alternatives of a rule", 1, 10_000, _alternatives, "warm; a new certificate is held against each"),
        ]
        return [_row(growth, quick) for growth in growths]


def _row(growth: Growth, quick: bool) -> Row:
    most = min(growth.most, growth.least * 20) if quick else growth.most
    subjects, reached = {"bare": Subject(_GATEWAY.runner(Application().wsgi), _plain)}, []
    for name, number in (("least", growth.least), ("most", most)):
        application = Application()
        app, requests = growth.wrap(application.wsgi, number)
        subjects[name] = Subject(_GATEWAY.runner(app), requests)
        reached.append(application)
    times = take_turns(subjects, Size.of(quick=quick))
    assert reached[0].reached == reached[1].reached > 0, f"{growth.what}: requests were refused"
    small, large = (times[name].over(times["bare"]).median for name in ("least", "most"))
    return Row(
        6,
        growth.what,
        f"{microseconds(large)} with {most:,}",
        f"{microseconds(small)} with {growth.least:,}",
        large / small,
        GOAL,
        note=growth.note,
    )


def _plain(number: int) -> Any:
    return [_GATEWAY.carrier(stacks.headers(stacks.RFC9440, stacks.client())) for _ in range(number)]


def _with_certificate(app: Any, **options: Any) -> Any:
    return ClientCertificateMiddleware(app, stacks.RFC9440.source(), **{"required": True, **options})


def _clients(app: Any, number: int) -> tuple[Any, Requests]:
    """Most entries are one and the same object: to make a million would take longer than all the rest."""
    asked = random.Random(number).sample(range(number), min(number, 1000))  # all over the dict, and its memory
    anybody = _client("anybody")
    clients = {str(each): anybody for each in range(number)} | {str(each): _client(str(each)) for each in asked}
    turns = itertools.cycle(asked)

    def requests(wanted: int) -> Any:
        pairs = stacks.headers(stacks.RFC9440, stacks.client())
        forms = (f"grant_type=client_credentials&client_id={each}".encode() for each in turns)
        return [_GATEWAY.carrier(pairs, path="/token", form=form) for form in itertools.islice(forms, wanted)]

    return _with_certificate(ClientAuthenticationMiddleware(app, ClientAuthenticator(clients))), requests


def _client(client_id: str) -> RegisteredClient:
    return RegisteredClient(
        client_id=client_id, token_endpoint_auth_method="tls_client_auth", tls_client_auth_san_dns=stacks.NAME
    )


def _serials(folder: Path) -> Callable[[Any, int], tuple[Any, Requests]]:
    def wrap(app: Any, number: int) -> tuple[Any, Requests]:
        file = folder / f"{number}.crl"
        file.write_bytes(revoked.list_of(stacks.authority(), number))
        store = TrustStore([stacks.authority().certificate], revocation=RevocationLists([file]))
        return _with_certificate(app, trust_store=store), _plain

    return wrap


def _ids(until: ExitStack) -> Callable[[Any, int], tuple[Any, Requests]]:
    def wrap(app: Any, number: int) -> tuple[Any, Requests]:
        revocations = until.enter_context(revoked.in_redis(number))
        return _with_certificate(app, allow=stacks.RULE & revocations.not_revoked, required=True), _plain

    return wrap


def _networks(app: Any, number: int) -> tuple[Any, Requests]:
    """Networks of six sizes; the peers are in the one that is looked at last, and none of them is remembered."""
    others = (f"172.{16 + each % 16}.{each // 16}.0/{24 + each % 5}" for each in range(number - 1))
    source = ClientCertHeader(trusted_proxies=[*others, "10.0.0.0/8"], verified_by_proxy=True)
    peers = (f"10.{each >> 16 & 255}.{each >> 8 & 255}.{each & 255}" for each in itertools.count())

    def requests(wanted: int) -> Any:
        pairs = stacks.headers(stacks.RFC9440, stacks.client())
        return [_GATEWAY.carrier(pairs, peer=peer) for peer in itertools.islice(peers, wanted)]

    return ClientCertificateMiddleware(app, source, required=True), requests


def _keys(app: Any, number: int) -> tuple[Any, Requests]:
    issuer = stacks.issuer()
    jwk = issuer.jwks["keys"][-1]
    numbers = (ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(number - 1))
    others = [{**issuer._jws.to_jwk(key, as_dict=True), "kid": str(each)} for each, key in enumerate(numbers)]
    tokens = JWTAccessTokens(issuer=issuer.issuer, audience=issuer.audience, jwks={"keys": [*others, jwk]})
    app = stacks.full_stack("wsgi", app, stacks.RFC9440, tokens=tokens)
    new = (stacks.token() for _ in itertools.count())
    return app, stacks.drawn(new, lambda t: _GATEWAY.carrier(stacks.headers(stacks.RFC9440, stacks.client(), t)))


def _alternatives(app: Any, number: int) -> tuple[Any, Requests]:
    rule = AnyOf((*(DNSName(f"{each}.internal") for each in range(number - 1)), stacks.RULE))
    return _with_certificate(app, allow=rule), _plain
