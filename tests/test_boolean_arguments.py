"""Each boolean argument of a public constructor: a value such as "false", which counts as true, is rejected."""

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware import asgi, wsgi
from mtls_middleware.client import CertificateFiles
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.sources import AWSAPIGateway, HeaderSource, ServerTLS
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.token_endpoint import RegisteredClient
from mtls_middleware.validation import RevocationLists
from tests.resource_server import forge

PACKAGES = "client", "policy", "resource_server", "revocation", "sources", "token_endpoint", "validation"
CA = CertificateAuthority()
PROXY = {"trusted_proxies": ["10.0.0.1"], "shared_secret": ("MtlsProxySecret", "x" * 32)}
METADATA = {"client_id": "billing"}

# The other arguments of each constructor. `None`: the package creates these objects, or only their subclasses exist.
ARGUMENTS: dict[str, dict[str, Any] | None] = {
    "AWSAPIGateway": {},
    "AWSLoadBalancer": {"mode": "verify", **PROXY},
    "AccessToken": None,
    "AsyncCertificateTransport": {"certificate": "files"},
    "CertificateStatus": {"status": "unavailable"},
    "CertificateTransport": {"certificate": "files"},
    "ClientAuthenticator": {"clients": {}},
    "HeaderSource": None,
    "IntrospectedAccessTokens": {"endpoint": "https://as.example/i", "client_id": "api", "client_secret": "x"},
    "JWTAccessTokens": {"issuer": "https://as.example", "audience": "api", "jwks": {"keys": [forge.JWK]}},
    "OCSP": {"responders": "http://ocsp.test"},
    "Peer": None,
    "RegisteredClient": {**METADATA, "token_endpoint_auth_method": "client_secret_basic"},
    "RevocationLists": {"urls": ["https://ca.test/a.crl"]},
    "TrustStore": {"roots": [CA.certificate]},
}


def public() -> Iterator[type]:
    for package in PACKAGES:
        module = import_module(f"mtls_middleware.{package}")
        yield from filter(inspect.isclass, (getattr(module, name) for name in module.__all__))


def booleans(owner: Any) -> list[str]:
    found = inspect.signature(owner).parameters.values()
    return [each.name for each in found if each.annotation in (bool, "bool", bool | None, "bool | None")]


def cases() -> Iterator[tuple[type, str]]:
    for owner in public():
        if issubclass(owner, Exception) or ARGUMENTS.get(owner.__name__, {}) is None:
            continue
        yield from ((owner, name) for name in booleans(owner))


@pytest.mark.parametrize(
    ("owner", "name"), list(cases()), ids=lambda each: each if isinstance(each, str) else each.__name__
)
@pytest.mark.parametrize("given", ["false", 0])
def test_each_boolean_of_a_constructor_is_checked(owner: type, name: str, given: object, tmp_path: Path) -> None:
    arguments = dict(ARGUMENTS.get(owner.__name__) or (PROXY if issubclass(owner, HeaderSource) else {}))
    if arguments.get("certificate") == "files":
        CA.issue().write(tmp_path, name="client")
        arguments["certificate"] = CertificateFiles(tmp_path / "client.pem", tmp_path / "client-key.pem")
    owner(**arguments)
    with pytest.raises(ConfigurationError, match=rf"{name}=.*expected True or False"):
        owner(**arguments, **{name: given})


def test_the_cases_include_the_constructors_that_decide_who_gets_in() -> None:
    found = {(owner.__name__, name) for owner, name in cases()}
    assert found > {("OCSP", "soft_fail"), ("RevocationLists", "soft_fail"), ("TrustStore", "require_client_auth_eku")}
    assert {AWSAPIGateway.__name__, "JWTAccessTokens", "CertificateTransport", "Nginx"} < {owner for owner, _ in found}


@pytest.mark.parametrize("module", [asgi, wsgi])
@pytest.mark.parametrize("given", ["false", 0])
@pytest.mark.parametrize("name", ["required", "exempt_preflight"])
def test_each_boolean_of_the_middleware_is_checked(module: Any, name: str, given: object) -> None:
    for wrap in (module.protect, module.ClientCertificateMiddleware):
        with pytest.raises(ConfigurationError, match=rf"{name}=.*expected True"):
            wrap(lambda *_: None, source=ServerTLS(), **{name: given})


def test_the_drafts_of_a_registration_are_a_boolean() -> None:
    with pytest.raises(ConfigurationError, match="drafts"):
        RegisteredClient.from_metadata(METADATA, drafts="false")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("given", ["garbage", "ftp://proxy.test", 3])
def test_the_proxy_of_revocation_lists_is_checked_without_urls(given: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="proxy: expected the URL of an HTTP proxy"):
        RevocationLists([tmp_path], proxy=given)


@pytest.mark.parametrize("given", ["https://ca.test/a.crl", [3], iter(["https://ca.test/a.crl"])])
def test_the_urls_of_revocation_lists_are_a_list_of_strings(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"urls=.*expected a list of strings"):
        RevocationLists(urls=given)
