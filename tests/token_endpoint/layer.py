"""The layer of a token endpoint for the clients of `registrations.py`, a good request to it, and its rejections."""

import json
from typing import Any

from tests.gateways import Outcome
from tests.token_endpoint.posts import Post, layers
from tests.token_endpoint.registrations import AUTHENTICATOR, BILLING

LAYERS = layers(AUTHENTICATOR)
GOOD = Post(certificate=BILLING)
UNKNOWN_ANSWER = b'{"error": "invalid_client", "error_description": "Client authentication failed."}'


def error(outcome: Outcome) -> str:
    """Status and code of a refusal."""
    assert not outcome.reached
    assert outcome.header("Cache-Control") == "no-store"
    assert outcome.header("Content-Type") == "application/json"
    return f"{outcome.status} {json.loads(outcome.body)['error']}"


def messages(*pieces: bytes) -> list[dict[str, Any]]:
    """A body in pieces, as an ASGI server gives it."""
    return [{"type": "http.request", "body": each, "more_body": True} for each in pieces] + [{"type": "http.request"}]
