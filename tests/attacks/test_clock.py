"""A clock that passes each date: no cache uses an entry for longer than it is valid."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware import Refused
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import Unavailable
from mtls_middleware.resource_server import MemoryAnswers, TrustedIssuers
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import CertificateAuthority, TokenIssuer
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.gateways import Request
from tests.introspection_server import IntrospectionServer
from tests.key_server import KeyServer
from tests.layers.clock import Clock, clock
from tests.layers.test_validity import Layers
from tests.layers.world import behind_nginx, certificates
from tests.resource_server.introspection import TOKEN, active, asking
from tests.validation.authority import crl

__all__ = ["clock"]

DAY = 86_400


class World:
    """Everything that expires, far apart: each row of the table moves the clock past one of the dates."""

    def __init__(self, clock: Clock, directory: Path) -> None:
        self.clock, self.begun, self.directory = clock, clock.now, directory

    def at(self, seconds: float) -> datetime:
        return datetime.fromtimestamp(self.begun + seconds, UTC)

    def chain(self, *, leaf: float = DAY, issuing: float = DAY, root: float = DAY) -> tuple[Any, Any, Any]:
        first = CertificateAuthority("CN=root", not_after=self.at(root))
        second = first.intermediate("CN=issuing", not_after=self.at(issuing))
        return first, second, second.issue(not_after=self.at(leaf))

    def stored(self, **lifetimes: float) -> Callable[[], int]:
        root, _, client = self.chain(**lifetimes)
        return self._asked(Request(tls=client), ServerTLS(), trust_store=TrustStore([root.certificate]))

    def plain(self, name: str) -> Callable[[], int]:
        _, _, client = self.chain(leaf=1000)
        if name == "header":
            return self._asked(behind_nginx(client), None, required=True)
        return self._asked(Request(tls=client), ServerTLS(), required=True)

    def listed(self, which: str) -> Callable[[], int]:
        """A list of the root, and one of the issuing CA: nextUpdate of one of them after a thousand seconds."""
        root, issuing, client = self.chain()
        for name, ca in (("root", root), ("issuing", issuing)):
            ends = 1000 if name == which else DAY
            (self.directory / f"{name}.crl").write_bytes(crl(ca, [1], now=self.begun, ends=ends))
        store = TrustStore([root.certificate], revocation=RevocationLists([self.directory]))
        return self._asked(Request(tls=client), ServerTLS(), trust_store=store)

    @staticmethod
    def _asked(request: Request, source: Any, **options: Any) -> Callable[[], int]:
        layers = Layers("wsgi", certificates(source, clock_skew=0, **options))
        return lambda: layers.send(request).status


ROWS: dict[str, Callable[[World], Callable[[], int]]] = {
    "certificate of the server": lambda world: world.plain("server"),
    "certificate of a header": lambda world: world.plain("header"),
    "leaf of a path": lambda world: world.stored(leaf=1000),
    "intermediate of a path": lambda world: world.stored(issuing=1000),
    "root of a path": lambda world: world.stored(root=1000),
    "revocation list of the root": lambda world: world.listed("root"),
    "revocation list of the issuing CA": lambda world: world.listed("issuing"),
}


@pytest.mark.parametrize("name", ROWS)
def test_certificate_passes_until_the_date_and_not_a_second_longer(name: str, clock: Clock, tmp_path: Path) -> None:
    ask = ROWS[name](World(clock, tmp_path))
    begun = clock.now
    for later, status in ((0, 200), (999, 200), (1000, 200), (1001, 403), (5000, 403), (1000, 200), (1001, 403)):
        clock.now = begun + later
        assert ask() == status, later


# Tokens: seconds from the beginning, with a leeway of 10


def good(validator: Any, text: str, now: float) -> bool | str:
    try:
        BlockingDriver().run(validator.validate(text, now))
    except Unavailable:
        return "503"
    except Refused:
        return False
    return True


@pytest.mark.parametrize("kind", ["alone", "of several issuers"])
def test_remembered_token_ends_with_its_exp_and_its_leeway(kind: str, clock: Clock, mtls_issuer: TokenIssuer) -> None:
    tokens: Any = mtls_issuer.access_tokens()
    if kind != "alone":
        tokens = TrustedIssuers([tokens])
    text = mtls_issuer.token(claims={"exp": clock.now + 1000})
    for later, expected in ((0, True), (1000, True), (1009, True), (1010, False), (0, True), (1011, False)):
        assert good(tokens, text, clock.now + later) is expected, later


def test_keys_are_old_after_ten_minutes_and_gone_an_hour_later(clock: Clock, mtls_issuer: TokenIssuer) -> None:
    text = mtls_issuer.token(claims={"exp": clock.now + DAY})
    with KeyServer(mtls_issuer.jwks) as server:
        tokens = mtls_issuer.access_tokens(jwks=None, jwks_uri=server.url, allow_http=True)
        assert good(tokens, text, clock.now) is True
    # The server is down from here on.
    for later, expected in ((599, True), (600, True), (4199, True), (4200, "503"), (9000, "503")):
        assert good(tokens, text, clock.now + later) == expected, later


@pytest.mark.parametrize("exp", [25, DAY])
def test_introspection_response_ends_with_its_time_and_its_exp(exp: float, clock: Clock) -> None:
    with IntrospectionServer() as server:
        tokens = asking(server, cache=MemoryAnswers(), remember_active=60)
        server.tokens = {TOKEN: active(exp=int(clock.now + exp))}
        assert good(tokens, TOKEN, clock.now) is True
        server.tokens = {}
        end = min(exp, 60)
        for later, expected in ((end - 1, True), (end, False), (end + 1, False)):
            assert good(tokens, TOKEN, clock.now + later) is expected, later
