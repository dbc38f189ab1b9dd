"""The entries of the revocation list: SHA-256 digests of certificates, and of issuers with token ids."""

import hashlib
import json
import math
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from mtls_middleware import options
from mtls_middleware.base64_values import sha256_digest
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.validity import MAX_CLOCK_SKEW

# Maximum number of seconds by which the clock of Redis may be ahead.
_REDIS_AHEAD = 300
# Seconds for which an entry stays on the list after its token or certificate has expired. An expired token or
# certificate may still be accepted within the longest `clock_skew`.
_ENTRY_EXTENSION = MAX_CLOCK_SKEW + _REDIS_AHEAD


def token_entry(issuer: str, token_id: str) -> bytes:
    """Return the entry of a token, which is a SHA-256 digest like the entry of a certificate.

    The input of this digest begins with "[". The DER of a certificate does not begin with "[", so the entries of a
    token and a certificate are never equal.
    """
    return hashlib.sha256(json.dumps([issuer, token_id]).encode("ascii")).digest()


def entries_of(caller: str, revoked: Iterable[Mapping[str, Any]]) -> list[tuple[bytes, int]]:
    """Return the entries for several mappings with the arguments of `entry_of`. No entry is returned twice.

    `caller`: the name of the public method, for the message. Raises `ConfigurationError`.
    """
    entries: dict[bytes, int] = {}
    try:
        for each in revoked:
            entry, second = entry_of(**each)
            entries[entry] = max(second, entries.get(entry, 0))
    except TypeError as error:
        raise ConfigurationError(
            f"{caller}(): expected mappings of arguments of revoke(), such as {{'thumbprint': ..., 'until': ...}}"
        ) from error
    return list(entries.items())


def entry_of(
    *, until: datetime, token_id: str | None = None, issuer: str | None = None, thumbprint: str | None = None
) -> tuple[bytes, int]:
    """Return the entry of a token or certificate, and the Unix time until which the entry is valid.

    The arguments are those of `RedisRevocations.revoke`. Raises `ConfigurationError`.
    """
    if not isinstance(until, datetime) or until.tzinfo is None:
        raise ConfigurationError(
            f"until={until!r}: expected an aware datetime, for example datetime.fromtimestamp(exp, UTC)"
        )
    second = math.ceil(until.timestamp()) + _ENTRY_EXTENSION
    if second < time.time():
        raise ConfigurationError(f"until={until!r} is in the past: expected the expiry of the token or certificate")
    if thumbprint is None:
        options.string("token_id", token_id, "the token's jti")
        options.string("issuer", issuer, "https://as.example")
        return token_entry(str(issuer), str(token_id)), second
    if token_id is not None or issuer is not None:
        raise ConfigurationError(
            "thumbprint= is given together with token_id= or issuer=: expected either thumbprint=, for a certificate, "
            "or both token_id= and issuer=, for a token"
        )
    octets = sha256_digest(thumbprint)
    if octets is None:
        raise ConfigurationError(
            f"thumbprint={thumbprint!r}: expected 43 characters of base64url, such as certificate.thumbprint"
        )
    return octets, second
