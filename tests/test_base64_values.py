"""Base64 that others wrote: one canonical form, on every Python version."""

import ast
import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mtls_middleware
from mtls_middleware.base64_values import base64_octets, base64url_octets
from mtls_middleware.errors import MalformedCertificate, Refused
from mtls_middleware.sources.encoding import base64_der
from mtls_middleware.token_endpoint import ClientRequest
from mtls_middleware.token_endpoint.credentials import credentials_of
from mtls_middleware.validation.spiffe_bundles import read_jwks
from tests.fuzz import good

# Python 3.11 and 3.12 accept the first three, 3.13 rejects them.
NOT_CANONICAL = [
    "YTpi=",
    "YTpi==",
    "YTpi====",
    "YTpiYh==",
    "YTpiYg",
    "YTpiYg=",
    "YTpi\n",
    " YTpi",
    "YT-i",
    "\u0661",
    "YTpiY===",
]


@given(st.binary())
def test_what_is_written_is_read(octets: bytes) -> None:
    assert base64_octets(base64.b64encode(octets).decode()) == octets


@pytest.mark.parametrize("text", NOT_CANONICAL)
def test_no_other_form_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        base64_octets(text)
    with pytest.raises(MalformedCertificate):
        base64_der(text)


@given(st.binary())
def test_base64url_that_is_written_is_read(octets: bytes) -> None:
    assert base64url_octets(base64.urlsafe_b64encode(octets).rstrip(b"=").decode()) == octets


@pytest.mark.parametrize(
    "text", ["Y", "YTpiY", "YTo=", "YT+i", "YT/i", "YT!pi", "YTp i", "YTpi\n", "\u0661", "YTp", "YR"]
)
def test_no_other_form_of_base64url_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="base64url"):
        base64url_octets(text)


@pytest.mark.parametrize("text", [each for each in NOT_CANONICAL if each.strip() == each])
def test_basic_has_one_form(text: str) -> None:
    assert credentials_of(ClientRequest([], None, authorization=["Basic YTpi"])).client_id == "a"
    with pytest.raises(Refused, match="invalid_request"):
        credentials_of(ClientRequest([], None, authorization=[f"Basic {text}"]))


@pytest.mark.parametrize("more", ["=", "==", "====", "\n"])
def test_a_certificate_of_a_bundle_has_one_form(more: str) -> None:
    def bundle(text: str) -> bytes:
        return json.dumps({"keys": [{"use": "x509-svid", "x5c": [text]}]}).encode()

    text = good.BASE64.decode()
    assert len(read_jwks(bundle(text))) == 1
    with pytest.raises(ValueError, match="not base64"):
        read_jwks(bundle(text + more))


def test_where_base64_is_decoded() -> None:
    """Each other file checks the characters first, authenticates the result, or reads PEM files of the operator."""
    root = Path(mtls_middleware.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("b64decode", "urlsafe_b64decode", "a2b_base64"):
                found.add(path.relative_to(root).as_posix())
    assert found == {
        "base64_values.py",
        "resource_server/introspection_cache.py",
        "validation/crl_reader.py",
        "validation/trust_files.py",
    }
