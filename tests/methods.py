"""What a client can use to authenticate, and the registered methods to which that belongs."""

from dataclasses import dataclass
from typing import Any

from tests.token_endpoint.roles import EC_KEY, assertion, basic

SECRET = "a secret that is long enough for an HMAC"
CERTIFICATE_METHODS = ("tls_client_auth", "self_signed_tls_client_auth")
CUSTOM = "attest_jwt_client_auth"  # a method that is not one of RFC 7591 or RFC 8705
IN, UNKNOWN, MALFORMED = "in", "401 invalid_client", "400 invalid_request"

USED = {
    "Basic": {"client_secret_basic"},
    "secret in the body": {"client_secret_post"},
    "assertion with a MAC": {"client_secret_jwt"},
    "signed assertion": {"private_key_jwt"},
    "CA's certificate": {"tls_client_auth", "none", CUSTOM},
    "own certificate": {"self_signed_tls_client_auth", "none", CUSTOM},
    "client_id alone": {"none", CUSTOM},
    "another scheme": {CUSTOM},
}


@dataclass(frozen=True)
class Sent:
    """`certificate`: `"CA's"`, `"own"` or none."""

    form: list[tuple[str, str]]
    authorization: str | None = None
    certificate: str | None = None


def sent(client_id: str, used: str, key: Any = EC_KEY) -> Sent:
    """What a client sends that authenticates by `used`."""
    named = [("client_id", client_id)]
    return {
        "Basic": Sent([], basic(client_id, SECRET)),
        "secret in the body": Sent([*named, ("client_secret", SECRET)]),
        "assertion with a MAC": Sent([*named, *assertion(client_id, key=SECRET, algorithm="HS256")]),
        "signed assertion": Sent([*named, *assertion(client_id, key=key)]),
        "CA's certificate": Sent(named, certificate="CA's"),
        "own certificate": Sent(named, certificate="own"),
        "client_id alone": Sent(named),
        "another scheme": Sent(named, "DPoP abc"),
    }[used]


def expected(registered: str, used: str) -> str:
    """What becomes of a request from a client with this registered method."""
    if registered in USED[used]:
        return IN
    other_credentials = used not in ("CA's certificate", "own certificate", "client_id alone")
    return MALFORMED if registered in CERTIFICATE_METHODS and other_credentials else UNKNOWN
