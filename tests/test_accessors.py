"""The accessors over anything that carries an environ or a scope. Real frameworks: `tests/frameworks`."""

from collections import UserDict
from datetime import UTC, datetime
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

import mtls_middleware
from mtls_middleware import AccessToken, access_token, client_certificate
from mtls_middleware.testing import IssuedCertificate

TOKEN = AccessToken(MappingProxyType({}), "alice", "app", frozenset({"read"}), datetime(2030, 1, 1, tzinfo=UTC))


@pytest.fixture
def carrier(mtls_client: IssuedCertificate) -> dict[str, Any]:
    return {
        "mtls_middleware.certificate": mtls_client.client_certificate(),
        "mtls_middleware.token": TOKEN,
    }


@pytest.mark.parametrize("kind", ["itself", "scope", "environ", "env", "mapping", "proxy"])
def test_accessors_read_every_kind_of_carrier(
    kind: str, carrier: dict[str, Any], mtls_client: IssuedCertificate
) -> None:
    request: Any = {
        "itself": carrier,
        "scope": SimpleNamespace(scope=carrier),
        "environ": SimpleNamespace(environ=carrier),
        "env": SimpleNamespace(env=carrier),
        "mapping": UserDict(carrier),
        "proxy": MappingProxyType(carrier),
    }[kind]
    assert client_certificate(request) == mtls_client.client_certificate()
    assert access_token(request) is TOKEN


@pytest.mark.parametrize("request_", [{}, SimpleNamespace(scope={}), SimpleNamespace(environ={}, scope=None)])
def test_without_a_layer_there_is_nothing(request_: Any) -> None:
    assert client_certificate(request_) is None
    assert access_token(request_) is None


@pytest.mark.parametrize("forged", ["x", b"x", 1, {"thumbprint": "x"}, object(), SimpleNamespace(verified=True), TOKEN])
def test_value_of_another_type_is_nothing(forged: Any) -> None:
    assert client_certificate({"mtls_middleware.certificate": forged}) is None
    assert access_token({"mtls_middleware.token": None if forged is TOKEN else forged}) is None


@pytest.mark.parametrize("request_", [None, "request", 7, object(), SimpleNamespace(scope="http"), [("a", "b")]])
def test_an_argument_that_is_not_a_request_is_named(request_: Any) -> None:
    for accessor in (client_certificate, access_token):
        with pytest.raises(TypeError, match="is not a request"):
            accessor(request_)


def test_the_package_exports_accessors_types_and_errors() -> None:
    wanted = {"AccessToken", "ClientCertificate", "ConfigurationError", "Refused", "Verification"}
    assert wanted | {"access_token", "client_certificate"} <= set(mtls_middleware.__all__)
    assert all(hasattr(mtls_middleware, name) for name in mtls_middleware.__all__)
    assert "alice" in repr(TOKEN)
