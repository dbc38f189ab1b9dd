"""What importing the package brings along: no optional extra, no framework, nothing that tests need."""

import subprocess
import sys

import pytest

MODULES = ["", ".wsgi", ".asgi", ".sources", ".policy", ".resource_server", ".token_endpoint", ".client"]
MODULES += [f".integrations.{name}" for name in ("registry", "openapi", "route_checks", "telemetry")]
UNWANTED = {
    "authlib",
    "oauth2_provider",
    "oauthlib",
    "opentelemetry",
    "httpx2",
    "http_sf",
    "uvicorn",
    "fastapi",
    "flask",
    "starlette",
    "django",
    "pytest",
    "rich",
    "hypothesis",
    "websockets",
}


def loaded(code: str, before: str = "") -> set[str]:
    """The top-level modules that `code` loads in a clean interpreter, without those that `before` loads."""
    script = f"import sys\n{before}\nknown = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - known))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in result.stdout.split()}


@pytest.mark.parametrize("module", MODULES)
def test_importing_brings_no_optional_package(module):
    assert not loaded(f"import mtls_middleware{module}") & UNWANTED


@pytest.mark.parametrize("module", MODULES)
def test_importing_brings_nothing_heavy_that_only_an_exchange_needs(module):
    found = loaded(f"import mtls_middleware{module}", before="import cryptography.x509, jwt")
    assert not found & {"asyncio", "anyio", "http", "sqlite3"}


@pytest.mark.parametrize("gateway", ["wsgi", "asgi"])
def test_a_gateway_without_rules_and_tokens_imports_neither(gateway):
    script = (
        f"import sys; from mtls_middleware.{gateway} import protect; from mtls_middleware.sources import ServerTLS\n"
        "protect(lambda *_: None, source=ServerTLS())\n"
        "print(*(name for name in sys.modules if name.startswith('mtls_middleware.')))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    optional = ("mtls_middleware.policy", "mtls_middleware.layers.token", "mtls_middleware.resource_server.jwt_tokens")
    assert "mtls_middleware.layers.certificate" in result.stdout.split()
    assert not [name for name in result.stdout.split() if name.startswith((*optional, "mtls_middleware.names."))]


def test_a_misspelt_module_of_names_is_an_attribute_error():
    from mtls_middleware import names

    with pytest.raises(AttributeError, match="has no attribute 'distinguishd'"):
        _ = names.distinguishd


def test_a_source_without_extra_needs_none():
    assert not loaded("from mtls_middleware.sources import Nginx; Nginx(trusted_proxies=['unix'])") & UNWANTED


@pytest.mark.parametrize(
    ("missing", "code", "line"),
    [
        ("http_sf", "sources import ClientCertHeader as C; C(trusted_proxies=['unix'])", "mtls-middleware[rfc9440]"),
        (
            "http_sf",
            "sources import GoogleCloudLoadBalancer as C; C(trusted_proxies=['unix'])",
            "mtls-middleware[rfc9440]",
        ),
        (
            "httpx2",
            "resource_server import JWTAccessTokens as C; C(issuer='i', audience='a', jwks_uri='https://x/')",
            "mtls-middleware[http]",
        ),
        ("httpx2", "client import CertificateTransport as C; C(None)", "mtls-middleware[http]"),
        ("httpx2", "client import CertificateBoundAuth as C; C()", "mtls-middleware[http]"),
        ("opentelemetry", "integrations.telemetry import observe as C; C()", "mtls-middleware[otel]"),
    ],
)
def test_a_missing_extra_is_named_at_construction(missing, code, line):
    hide = (
        "import importlib.util as u; find = u.find_spec\n"
        f"def hidden(name, *a): return None if name == {missing!r} else find(name, *a)\n"
        "u.find_spec = hidden\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", f"{hide}from mtls_middleware.{code}"], capture_output=True, text=True, check=False
    )
    assert f"ConfigurationError: {code.split(' as ')[0].split()[-1]}" in result.stderr or "jwks_uri" in result.stderr
    assert f"pip install '{line}'" in result.stderr
