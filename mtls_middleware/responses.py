"""Creates the responses to rejected requests: status, header fields and body (RFC 6750 section 3).

Descriptions are fixed strings, so a response never contains data that a client sent. This module performs no I/O.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.options import is_scope


@dataclass(frozen=True, slots=True)
class _ErrorResponse:
    status: int
    error: str | None  # `None` if the request has no credentials (RFC 6750 3.1)
    description: str
    challenge: bool = False


RESPONSES: Mapping[str, _ErrorResponse] = MappingProxyType(
    {
        "invalid_client_certificate": _ErrorResponse(
            400, "invalid_client_certificate", "The client certificate cannot be read."
        ),
        "client_certificate_required": _ErrorResponse(
            403, "client_certificate_required", "A client certificate is required."
        ),
        "client_certificate_refused": _ErrorResponse(
            403, "client_certificate_refused", "The client certificate is not accepted."
        ),
        "ambiguous_path": _ErrorResponse(400, "ambiguous_path", "The path can be read in more than one way."),
        "missing_token": _ErrorResponse(401, None, "An access token is required.", challenge=True),
        "invalid_request": _ErrorResponse(400, "invalid_request", "The request is malformed.", challenge=True),
        "invalid_token": _ErrorResponse(401, "invalid_token", "The access token is not accepted.", challenge=True),
        "insufficient_scope": _ErrorResponse(
            403, "insufficient_scope", "The access token has too little scope.", challenge=True
        ),
        "invalid_client": _ErrorResponse(401, "invalid_client", "Client authentication failed.", challenge=True),
        "invalid_grant": _ErrorResponse(400, "invalid_grant", "The grant is not accepted."),
        "method_not_allowed": _ErrorResponse(405, "invalid_request", "Use POST."),
        "read_only": _ErrorResponse(405, "invalid_request", "Use GET."),
        "payload_too_large": _ErrorResponse(413, "invalid_request", "The request is too large."),
        "temporarily_unavailable": _ErrorResponse(503, "temporarily_unavailable", "Try again later."),
        "server_error": _ErrorResponse(500, "server_error", "The request could not be decided."),
    }
)


@dataclass(frozen=True, slots=True)
class LayerResponse:
    """A complete response. `new_connection`: whether the gateway should close the connection after the response."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    new_connection: bool = False


_QUOTABLE = re.compile(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+")  # the characters that RFC 6750 3 allows in a quoted value


@dataclass(frozen=True, slots=True)
class Challenge:
    """The part of the `WWW-Authenticate` field that is the same for every request.

    A challenge always has a realm, because a scheme without parameters is not a valid challenge. The scheme `"Basic"`
    is for endpoints where OAuth clients authenticate. A Basic challenge is sent only with status 401 (RFC 6749 5.2, RFC
    9110 15.5.2). If there are several schemes, the field has one challenge for each scheme (RFC 9110 11.6.1).
    """

    schemes: tuple[Literal["Bearer", "mtls_pop", "Basic"], ...] = ("Bearer",)
    realm: str = "protected"
    scopes: tuple[str, ...] = ()
    resource_metadata: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.realm, str) or not _QUOTABLE.fullmatch(self.realm):
            raise ConfigurationError(f"realm={self.realm!r}: expected printable ASCII without quotes and backslashes")
        for scope in self.scopes:
            if not is_scope(scope):
                raise ConfigurationError(
                    f"scope {scope!r}: expected printable ASCII without spaces, quotes and backslashes"
                )
        metadata = self.resource_metadata
        if metadata is None:
            return
        is_quotable = isinstance(metadata, str) and _QUOTABLE.fullmatch(metadata) and " " not in metadata
        if not is_quotable or not metadata.startswith("https://"):
            raise ConfigurationError(f"resource_metadata={metadata!r}: expected an https address (RFC 9728 5.1)")

    def header(self, row: _ErrorResponse) -> str | None:
        """Return the value of the `WWW-Authenticate` field for a response, or `None` if the response needs none."""
        if self.schemes == ("Basic",):
            return f'Basic realm="{self.realm}"' if row.status == 401 else None
        parameters = {"realm": self.realm}
        if row.error is not None:
            parameters |= {"error": row.error, "error_description": row.description}
        if self.scopes and row.error in (None, "insufficient_scope"):
            parameters["scope"] = " ".join(self.scopes)
        if self.resource_metadata is not None:
            parameters["resource_metadata"] = self.resource_metadata
        text = ", ".join(f'{name}="{value}"' for name, value in parameters.items())
        return ", ".join(f"{scheme} {text}" for scheme in self.schemes)


def response_for(error: Exception, challenge: Challenge) -> LayerResponse:
    """Return the response for `error`.

    For an exception that is not a `Refused`, the response is a 500 without details.
    """
    row = RESPONSES.get(error.code) if isinstance(error, Refused) else None
    row = row or RESPONSES["server_error"]
    members = {"error": row.error, "error_description": row.description}
    body = json.dumps({name: value for name, value in members.items() if value is not None}).encode("ascii")
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),  # the response depends on the certificate (RFC 9440 2.4)
    ]
    if row.challenge and (header := challenge.header(row)) is not None:
        headers.append(("WWW-Authenticate", header))
    if row.status == 405:
        headers.append(("Allow", "POST" if row is RESPONSES["method_not_allowed"] else "GET, HEAD"))
    if isinstance(error, Unavailable):
        headers.append(("Retry-After", str(error.retry_after)))
    return LayerResponse(row.status, tuple(headers), body, isinstance(error, Refused) and error.new_connection)
