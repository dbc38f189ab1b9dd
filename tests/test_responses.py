"""The table of answers as data: every code has a row, every row is safe to send, nothing else gets out."""

import json
import re
from typing import Any

import pytest

from mtls_middleware.errors import ConfigurationError, MalformedCertificate, Refused, Unavailable
from mtls_middleware.responses import RESPONSES, Challenge, response_for

QUOTABLE = re.compile(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+")
METADATA = "https://api.test/.well-known/oauth-protected-resource"
FULL = Challenge(realm="api", scopes=("read", "write"), resource_metadata=METADATA)


def challenge_of(error: Exception, challenge: Challenge = FULL) -> str | None:
    return dict(response_for(error, challenge).headers).get("WWW-Authenticate")


@pytest.mark.parametrize("code", RESPONSES)
@pytest.mark.standard("G8", "G9")
@pytest.mark.case("156")
def test_row_is_safe_to_send(code: str) -> None:
    response = response_for(Refused(code, 'evidence "quoted"\r\nX-Evil: 1', "\x1b[2J"), FULL)
    names = [name for name, _ in response.headers]
    assert len(names) == len({name.lower() for name in names})
    headers = dict(response.headers)
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Length"] == str(len(response.body))
    members: dict[str, str] = json.loads(response.body)
    assert set(members) <= {"error", "error_description"}
    for text in (*members.values(), *headers.values()):
        assert text.isascii()
        assert text.isprintable()
    assert all(QUOTABLE.fullmatch(each) for each in members.values())
    assert b"evidence" not in response.body
    assert "evil" not in str(headers).lower()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("missing_token", f'Bearer realm="api", scope="read write", resource_metadata="{METADATA}"'),
        (
            "insufficient_scope",
            'Bearer realm="api", error="insufficient_scope", error_description="The access token has too little scope."'
            f', scope="read write", resource_metadata="{METADATA}"',
        ),
        (
            "invalid_token",
            'Bearer realm="api", error="invalid_token", error_description="The access token is not accepted."'
            f', resource_metadata="{METADATA}"',
        ),
        (
            "invalid_request",
            'Bearer realm="api", error="invalid_request", error_description="The request is malformed."'
            f', resource_metadata="{METADATA}"',
        ),
        ("client_certificate_required", None),
        ("client_certificate_refused", None),
        ("invalid_client_certificate", None),
        ("temporarily_unavailable", None),
        ("server_error", None),
    ],
)
@pytest.mark.standard("G1", "G7", "G8")
def test_challenge_of_each_code(code: str, expected: str | None) -> None:
    assert challenge_of(Refused(code)) == expected


@pytest.mark.standard("G1")
def test_challenge_is_never_a_bare_scheme() -> None:
    assert challenge_of(Refused("missing_token"), Challenge()) == 'Bearer realm="protected"'


@pytest.mark.parametrize(
    "error",
    [ValueError("secret"), Refused("no such code", "secret"), ConfigurationError("secret"), KeyError(), Exception()],
)
@pytest.mark.case("154")
def test_an_exception_that_is_not_a_refusal_is_500_without_detail(error: Exception) -> None:
    response = response_for(error, FULL)
    assert response.status == 500
    assert json.loads(response.body) == {
        "error": "server_error",
        "error_description": "The request could not be decided.",
    }
    assert {name for name, _ in response.headers} == {"Content-Type", "Content-Length", "Cache-Control"}


def test_unavailable_sets_retry_after() -> None:
    response = response_for(Unavailable("keys", retry_after=30), FULL)
    assert (response.status, dict(response.headers)["Retry-After"]) == (503, "30")


def test_malformed_certificate_is_400() -> None:
    assert response_for(MalformedCertificate("two field lines"), FULL).status == 400


@pytest.mark.parametrize(
    "options",
    [
        {"realm": ""},
        {"realm": 'a"b'},
        {"realm": "a\\b"},
        {"realm": "a\nb"},
        {"realm": "é"},
        {"realm": 7},
        {"scopes": ("a b",)},
        {"scopes": ("",)},
        {"scopes": (7,)},
        {"resource_metadata": "http://api.test"},
        {"resource_metadata": "https://api.test/a b"},
        {"resource_metadata": 7},
        {"resource_metadata": ""},
    ],
)
@pytest.mark.standard("G9")
def test_challenge_that_cannot_be_sent_cannot_be_made(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Challenge(**options)
