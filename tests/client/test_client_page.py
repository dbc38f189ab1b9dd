"""docs/client.md is true: its code runs with real servers."""

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware.client import errors
from tests.client.conftest import World

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "client.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def names(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the page's first blocks."""
    monkeypatch.chdir(world.directory)
    os.link("client.pem", "billing.pem")
    os.link("client-key.pem", "billing.key")
    return {}


def run(world: World, text: str, names: dict[str, Any]) -> None:
    (block,) = [each for each in BLOCKS if text in each]
    block = block.replace("https://as.example", world.server.issuer)
    exec(re.sub(r'https://api.example(?=/|"])', world.api.host, block), names)


def test_the_clients_of_httpx2_send_requests(world: World, names: dict[str, Any]) -> None:
    run(world, "auth = CertificateBoundAuth(", names)
    assert names["response"].status_code == 200
    run(world, "AsyncCertificateTransport", names)
    assert asyncio.run(names["invoices"]()).status_code == 200
    assert len(world.server.token_requests) == 1
    run(world, "pair.thumbprint", names)
    names["client"].close()


def test_the_introspecting_resource_server_is_constructed(world: World, names: dict[str, Any]) -> None:
    run(world, "IntrospectedAccessTokens(", names)


@pytest.mark.parametrize("library", ["urllib3", "requests", "aiohttp"])
def test_other_clients_present_the_certificate(world: World, names: dict[str, Any], library: str) -> None:
    world.api.respond = lambda received: (200, {}, {})
    run(world, f"import {library}\n", names)
    if library == "aiohttp":
        assert asyncio.run(names["invoices"]()) == 200
    else:
        assert getattr(names["response"], "status", None) or names["response"].status_code == 200
    assert [each.thumbprint for each in world.api.received] == [world.files.current().thumbprint]
    for name in ("http", "session"):
        if name in names:
            getattr(names[name], "clear", getattr(names[name], "close", None))()


def test_every_exception_and_code_is_in_the_table() -> None:
    for name in ("TokenError", "TokenNotBound", "CredentialsNotSent"):
        assert re.search(rf"^\|.*`{name}`", PAGE, re.MULTILINE)
    for code in errors.Code.__args__[:-1]:  # type: ignore[attr-defined]  # a Literal
        assert f'`"{code}"`' in PAGE


def test_the_page_has_seven_blocks() -> None:
    assert len(BLOCKS) == 7
