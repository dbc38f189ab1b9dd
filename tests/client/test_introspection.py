"""`IntrospectedAccessTokens(certificate=...)` presents the current certificate to the introspection endpoint."""

import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware.effects import BlockingDriver
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.resource_server import IntrospectedAccessTokens
from tests.client.conftest import World

CONTEXT = ssl.create_default_context()


def validator(world: World, **options: Any) -> IntrospectedAccessTokens:
    endpoint = f"{world.server.host}/introspect"
    return IntrospectedAccessTokens(endpoint=endpoint, client_id="api", **options)


@pytest.mark.usefixtures("at_each_call")
def test_a_renewed_certificate_authenticates_the_resource_server(world: World) -> None:
    world.server.respond = lambda received: (200, {}, {"active": True})
    tokens = validator(world, certificate=world.files, roots=world.roots)
    expected = []
    for _ in range(4):  # more certificates than are kept
        expected.append(world.files.current().thumbprint)
        for _ in range(2):
            BlockingDriver().run(tokens.validate("token", time.time()))
        world.renew()
    assert [each.thumbprint for each in world.server.received] == [each for each in expected for _ in range(2)]
    assert world.server.received[0].form["client_id"] == "api"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"certificate": "api.pem"}, "certificate='api.pem'"),
        ({"roots": "ca.pem"}, "roots= needs certificate="),
        ({"ssl_context": CONTEXT, "certificate": None, "roots": "ca.pem"}, "roots= needs certificate="),
    ],
)
def test_a_wrong_combination_is_an_error(world: World, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        validator(world, **options)


def test_a_context_and_a_certificate_exclude_each_other(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected one"):
        validator(world, certificate=world.files, ssl_context=CONTEXT)
    with pytest.raises(ConfigurationError, match="roots="):
        validator(world, certificate=world.files, roots=tmp_path / "absent.pem")
