"""Tokens put together by hand, and whether the validator refuses them."""

from typing import Any

import pytest

from mtls_middleware import Refused
from tests.resource_server import forge


def refused(text: str, **options: Any) -> bool:
    """Whether the validator refuses; anything but `invalid_token` without a word of the token fails the test."""
    try:
        forge.validate(forge.access_tokens(**options), text)
    except Refused as refusal:
        said = (refusal.code, any(part in repr(refusal) for part in text.split(".") if len(part) > 8))
    else:
        return False
    if said != ("invalid_token", False):
        pytest.fail(f"refused with {said}")
    return True


def with_header(**changes: Any) -> str:
    return forge.token({name: value for name, value in {**forge.HEADER, **changes}.items() if value is not ...})


def with_claims(**changes: Any) -> str:
    return forge.token(payload={name: value for name, value in forge.claims(**changes).items() if value is not ...})
