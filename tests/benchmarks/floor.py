"""The least possible program that does the work of a warm request, to compare the library with.

It looks up the certificate and the token in dictionaries, hashes the token, compares expiry, thumbprint and scope,
drops the headers, attaches both objects and adds `Vary`. It trusts every peer, and its dictionaries are not bounded.
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtls_middleware.sources.vendors import KNOWN_HEADERS
from tests.benchmarks import stacks
from tests.benchmarks.carriers import ASGI, GATEWAYS, WSGI, Application
from tests.benchmarks.loop import Size, Subject, take_turns
from tests.benchmarks.table import Row, microseconds

GOAL = 2.0
_WSGI_KEYS = frozenset("HTTP_" + name.upper().replace("-", "_") for name in KNOWN_HEADERS)
_ASGI_NAMES = frozenset(name.encode("ascii") for name in KNOWN_HEADERS)


@dataclass(frozen=True, slots=True)
class Known:
    """A certificate or a token that was accepted before."""

    value: object
    thumbprint: str
    expires: float
    scopes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Floor:
    """The program. `certificates`: by the value of `header`. `tokens`: by the digest of `Authorization`."""

    application: Any
    header: str
    certificates: Mapping[str, Known]
    tokens: Mapping[bytes, Known]

    def wsgi(self, environ: Any, start_response: Any) -> Any:
        certificate = self.certificates[environ["HTTP_" + self.header.upper().replace("-", "_")]]
        token = self.tokens[hashlib.sha256(environ["HTTP_AUTHORIZATION"].encode("latin-1")).digest()]
        now = time.time()
        if (
            now >= certificate.expires
            or now >= token.expires
            or token.thumbprint != certificate.thumbprint
            or stacks.SCOPE not in token.scopes
        ):
            raise ValueError("rejected")
        for key in _WSGI_KEYS.intersection(environ):
            del environ[key]
        environ["floor.certificate"] = certificate.value
        environ["floor.token"] = token.value

        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            return start_response(status, [*headers, ("Vary", self.header)], exc_info)

        return self.application(environ, start)

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        fields = dict(scope["headers"])
        certificate = self.certificates[fields[self.header.encode("ascii")].decode("latin-1")]
        token = self.tokens[hashlib.sha256(fields[b"authorization"]).digest()]
        now = time.time()
        if (
            now >= certificate.expires
            or now >= token.expires
            or token.thumbprint != certificate.thumbprint
            or stacks.SCOPE not in token.scopes
        ):
            raise ValueError("rejected")
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in _ASGI_NAMES]
        scope["floor.certificate"] = certificate.value
        scope["floor.token"] = token.value

        async def varying(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"vary", self.header.encode("ascii"))]}
            await send(message)

        await self.application(scope, receive, varying)


def rows(quick: bool) -> list[Row]:
    return [_row(gateway, form, quick) for gateway in GATEWAYS for form in stacks.FORMS]


def _row(gateway: WSGI | ASGI, form: stacks.Form, quick: bool) -> Row:
    text = stacks.token()
    pairs = stacks.headers(form, stacks.client(), text)
    bare, inner, least = Application(), Application(), Application()
    known = Known(stacks.client(), stacks.client().thumbprint, time.time() + 86_400, frozenset({stacks.SCOPE}))
    floor = Floor(
        getattr(least, gateway.name),
        pairs[0][0].lower(),
        {pairs[0][1]: known},
        {hashlib.sha256(f"Bearer {text}".encode("latin-1")).digest(): known},
    )
    app = stacks.full_stack(gateway.name, getattr(inner, gateway.name), form)

    def requests(number: int) -> list[object]:
        return [gateway.carrier(pairs) for _ in range(number)]

    times = take_turns(
        {
            "bare": Subject(gateway.runner(getattr(bare, gateway.name)), requests),
            "floor": Subject(gateway.runner(getattr(floor, gateway.name)), requests),
            "ours": Subject(gateway.runner(app), requests),
        },
        Size.of(quick=quick),
    )
    assert inner.reached == bare.reached == least.reached, "requests were rejected: these are no warm requests"
    added, unit = times["ours"].over(times["bare"]), times["floor"].over(times["bare"])
    return Row(
        10,
        f"warm over the floor, {gateway.name.upper()}, {form.name}",
        f"{microseconds(added.median)} added",
        f"{microseconds(unit.median)} added by the least program",
        added.median / unit.median,
        GOAL,
    )
