"""The answers of refusals, as data: status, header fields, body, for both gateways. RFC 6750 section 3.

Must never know: the request. Descriptions are fixed strings; no response contains what a client sent.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from mtls_middleware.errors import ConfigurationError, Refused, Unavailable


@dataclass(frozen=True, slots=True)
class _Row:
    status: int
    error: str | None  # RFC 6750 3.1: no error where no credentials came
    description: str
    challenge: bool = False


ANSWERS: Mapping[str, _Row] = MappingProxyType(
    {
        "invalid_client_certificate": _Row(400, "invalid_client_certificate", "The client certificate cannot be read."),
        "client_certificate_required": _Row(403, "client_certificate_required", "A client certificate is required."),
        "client_certificate_refused": _Row(
            403, "client_certificate_refused", "The client certificate is not accepted."
        ),
        "ambiguous_path": _Row(400, "ambiguous_path", "The path can be read in more than one way."),
        "missing_token": _Row(401, None, "An access token is required.", challenge=True),
        "invalid_request": _Row(400, "invalid_request", "The request is malformed.", challenge=True),
        "invalid_token": _Row(401, "invalid_token", "The access token is not accepted.", challenge=True),
        "insufficient_scope": _Row(403, "insufficient_scope", "The access token has too little scope.", challenge=True),
        "invalid_client": _Row(401, "invalid_client", "Client authentication failed.", challenge=True),
        "invalid_grant": _Row(400, "invalid_grant", "The grant is not accepted."),
        "method_not_allowed": _Row(405, "invalid_request", "Use POST."),
        "read_only": _Row(405, "invalid_request", "Use GET."),
        "payload_too_large": _Row(413, "invalid_request", "The request is too large."),
        "temporarily_unavailable": _Row(503, "temporarily_unavailable", "Try again later."),
        "server_error": _Row(500, "server_error", "The request could not be decided."),
    }
)


@dataclass(frozen=True, slots=True)
class LayerResponse:
    """A whole response. `new_connection`: the connection should end after it, if the gateway can ask for this."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    new_connection: bool = False


_QUOTABLE = re.compile(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+")  # what RFC 6750 3 lets stand in a quoted value
_SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")  # RFC 6749 3.3: one scope-token


@dataclass(frozen=True, slots=True)
class Challenge:
    """The lasting part of `WWW-Authenticate`. It always has a realm: a scheme alone is not a challenge.

    `scheme`: `"Basic"` where OAuth clients authenticate: with 401 and no other status (RFC 6749 5.2, RFC 9110 15.5.2).
    """

    scheme: Literal["Bearer", "Basic"] = "Bearer"
    realm: str = "protected"
    scopes: tuple[str, ...] = ()
    resource_metadata: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.realm, str) or not _QUOTABLE.fullmatch(self.realm):
            raise ConfigurationError(f"realm={self.realm!r}: printable ASCII without quote and backslash")
        for scope in self.scopes:
            if not isinstance(scope, str) or not _SCOPE.fullmatch(scope):
                raise ConfigurationError(f"{scope!r} is no scope: printable ASCII without blank, quote and backslash")
        metadata = self.resource_metadata
        if metadata is None:
            return
        if not (isinstance(metadata, str) and _SCOPE.fullmatch(metadata) and metadata.startswith("https://")):
            raise ConfigurationError(f"resource_metadata={metadata!r}: an https address (RFC 9728 5.1)")

    def header(self, row: _Row) -> str | None:
        if self.scheme == "Basic":
            return f'Basic realm="{self.realm}"' if row.status == 401 else None
        parameters = {"realm": self.realm}
        if row.error is not None:
            parameters |= {"error": row.error, "error_description": row.description}
        if self.scopes and row.error in (None, "insufficient_scope"):
            parameters["scope"] = " ".join(self.scopes)
        if self.resource_metadata is not None:
            parameters["resource_metadata"] = self.resource_metadata
        return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())


def answer(error: Exception, challenge: Challenge) -> LayerResponse:
    """The response for `error`: an exception that is not a `Refused` becomes a 500 without detail."""
    row = ANSWERS.get(error.code) if isinstance(error, Refused) else None
    row = row or ANSWERS["server_error"]
    members = {"error": row.error, "error_description": row.description}
    body = json.dumps({name: value for name, value in members.items() if value is not None}).encode("ascii")
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),  # RFC 9440 2.4: an answer that depends on the certificate
    ]
    if row.challenge and (header := challenge.header(row)) is not None:
        headers.append(("WWW-Authenticate", header))
    if row.status == 405:
        headers.append(("Allow", "POST" if row is ANSWERS["method_not_allowed"] else "GET, HEAD"))
    if isinstance(error, Unavailable):
        headers.append(("Retry-After", str(error.retry_after)))
    return LayerResponse(row.status, tuple(headers), body, isinstance(error, Refused) and error.new_connection)
