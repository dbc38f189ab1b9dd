"""Sources, trust stores and validators of somebody else's that give what is no answer: 500, and never a pass."""

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mtls_middleware import ClientCertificate
from mtls_middleware.policy import Presented, Thumbprint
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate
from tests.gateways import Request, both_gateways, send

GIVEN: list[Any] = []


async def _coroutine() -> None: ...


async def _asynchronous() -> Any:
    yield None


def _generated(answer: Any) -> Iterator[Any]:
    yield from ()
    return answer


class Anything:
    """As a mock is: it has every attribute, is true, and can be gone through."""

    def __getattr__(self, name: str) -> Any:
        return Anything()

    def __call__(self, *arguments: Any) -> Any:
        return Anything()

    def __getitem__(self, key: Any) -> Any:
        return Anything()

    def __iter__(self) -> Iterator[Any]:
        return iter(())


NO_ANSWERS: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "text": lambda: "a certificate",
    "nothing": lambda: "",
    "list": list,
    "needs": lambda: [None, None],
    "mapping": dict,
    "coroutine": _coroutine,
    "async generator": _asynchronous,
    "anything": Anything,
    "alike": lambda: SimpleNamespace(
        verified=True, thumbprint="", bound=True, scopes=frozenset(), proof=None, claims={}
    ),
    "flow of None": lambda: _generated(None),
    "flow of True": lambda: _generated(True),
    "flow of text": lambda: _generated("a certificate"),
    "flow of a flow": lambda: _generated(_generated(None)),
    "flow of anything": lambda: _generated(Anything()),
    "class": lambda: ClientCertificate,
}
FINE_FOR_A_SOURCE = {"None"}
RULES: dict[str, dict[str, Any]] = {
    "nothing demanded": {},
    "required": {"required": True},
    "a rule": {"allow": ~Thumbprint("A" * 43)},
    "a callable": {"allow": Presented(lambda _: True)},
}


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while GIVEN:
        if asyncio.iscoroutine(given := GIVEN.pop()):
            given.close()


def give(case: str) -> Any:
    GIVEN.append(given := NO_ANSWERS[case]())
    return given


class Store:
    def __init__(self, case: str) -> None:
        self._case = case

    def validate(self, *_: Any) -> Any:
        return give(self._case)


class Source(ServerTLS):
    def __init__(self, case: str) -> None:
        self._case = case

    def find(self, *_: Any) -> Any:
        return give(self._case)


@both_gateways
@pytest.mark.parametrize("case", NO_ANSWERS)
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("exempt", [(), ("/",)])
def test_a_trust_store_that_returns_no_certificate_causes_500(
    gateway: str, case: str, rules: str, exempt: Any, mtls_client: IssuedCertificate
) -> None:
    def wrap(module: Any, app: Any) -> Any:
        options = {**RULES[rules], "trust_store": Store(case), "exempt": exempt}
        return module.ClientCertificateMiddleware(app, ServerTLS(), **options)

    assert send(gateway, wrap, Request(tls=mtls_client)).status == 500


@both_gateways
@pytest.mark.parametrize("case", sorted(NO_ANSWERS.keys() - FINE_FOR_A_SOURCE))
@pytest.mark.parametrize("rules", RULES)
def test_a_source_that_returns_no_certificate_causes_500(gateway: str, case: str, rules: str) -> None:
    def wrap(module: Any, app: Any) -> Any:
        return module.ClientCertificateMiddleware(app, Source(case), **RULES[rules])

    assert send(gateway, wrap, Request()).status == 500


@both_gateways
@pytest.mark.parametrize("case", NO_ANSWERS)
@pytest.mark.parametrize("binding", ["required", "when_present"])
@pytest.mark.parametrize("exempt", [(), ("/",)])
def test_a_validator_that_returns_no_token_causes_500(
    gateway: str, case: str, binding: str, exempt: Any, mtls_client: IssuedCertificate
) -> None:
    def wrap(module: Any, app: Any) -> Any:
        inner = module.CertificateBoundTokenMiddleware(app, Store(case), binding=binding, exempt=exempt)
        return module.ClientCertificateMiddleware(inner, ServerTLS())

    request = Request(tls=mtls_client, headers=[("Authorization", "Bearer abc")])
    assert send(gateway, wrap, request).status == 500
