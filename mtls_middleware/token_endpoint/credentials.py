"""Reads which client a token endpoint request names, and the credentials in the request (RFC 6749 2.3).

This module determines the authentication methods to which the credentials can belong. It does not verify the
credentials, performs no I/O and reads no clock.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import unquote_plus

from mtls_middleware.base64_values import base64_octets, base64url_octets
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.json_values import json_object

BASIC, POST = "client_secret_basic", "client_secret_post"
SECRET_JWT, PRIVATE_KEY_JWT = "client_secret_jwt", "private_key_jwt"
PKI, SELF_SIGNED = "tls_client_auth", "self_signed_tls_client_auth"
PUBLIC = "none"
# The authentication methods of RFC 7591 2, OpenID Connect Core 9 and RFC 8705 2.
STANDARD_METHODS = (BASIC, POST, SECRET_JWT, PRIVATE_KEY_JWT, PKI, SELF_SIGNED, PUBLIC)

# Parameters that name a client or carry its credentials (RFC 6749 2.3.1, RFC 7521 4.2).
CREDENTIAL_PARAMETERS = ("client_id", "client_secret", "client_assertion", "client_assertion_type")

OTHER_SCHEME = "an Authorization header that is not Basic"

_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 2.2


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """The parts of an HTTP request that client authentication reads.

    Attributes:
        form: names and values of the form parameters in the body, in order, with repeated names.
        query: names and values of the parameters in the query string. A request with a `client_id` or credentials in
            its query is rejected.
        authorization: a list with the value of each `Authorization` header.
        certificate: the client certificate, or `None`.

    Raises `ConfigurationError` for a string or a mapping where a list is expected.

    Example: `ClientRequest(request.form.items(multi=True), client_certificate(request), authorization=fields)`
    """

    form: Iterable[tuple[str, str]]
    certificate: ClientCertificate | None
    query: Iterable[tuple[str, str]] = ()
    authorization: Iterable[str] = ()

    def __post_init__(self) -> None:
        for name in ("form", "query", "authorization"):
            given = getattr(self, name)
            if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
                raise ConfigurationError(
                    f"{name} is a {type(given).__name__}: expected a list, for example form.items(multi=True)"
                )
            # Converted to a tuple, because an iterator can be read only once.
            object.__setattr__(self, name, tuple(given))


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of one request.

    Attributes:
        client_id: the client that the request names, or `None`.
        found: a description of the credentials for the log.
        methods: the standard methods that these credentials can belong to.
        standard: whether the credentials have the form of a standard method, even if they are invalid.
    """

    client_id: str | None
    found: str
    methods: frozenset[str]
    standard: bool = True

    def permit(self, method: str) -> bool:
        """Return whether these credentials can belong to `method`, the method that the client registered.

        Credentials of a standard method never belong to a non-standard method.
        """
        return method in self.methods if method in STANDARD_METHODS else not self.standard


def credentials_of(request: ClientRequest) -> Credentials:
    """Read the credentials of a request. A parameter without a value is treated as omitted (RFC 6749 3.2).

    Raises `Refused("invalid_request")` if the request repeats a parameter, uses several methods or is malformed.
    """
    if any(name in CREDENTIAL_PARAMETERS for name, _ in request.query):
        _malformed("client_id or credentials in the query; expected in the body or the Authorization header")
    given: dict[str, str] = {}
    for name, value in request.form:
        if name in CREDENTIAL_PARAMETERS:
            if name in given:
                _malformed(f"{name} is given more than once (RFC 6749 3.2)")
            given[name] = value
    authorization = tuple(request.authorization)
    if len(authorization) > 1:
        _malformed("more than one Authorization header")
    basic = _basic(authorization[0]) if authorization else None
    if bool(given.get("client_assertion")) != bool(given.get("client_assertion_type")):
        _malformed("only one of client_assertion and client_assertion_type; expected both or neither (RFC 7521 4.2)")
    carried = [
        name
        for name, present in (
            ("Basic", basic is not None),
            ("client_secret", bool(given.get("client_secret"))),
            ("client_assertion", bool(given.get("client_assertion"))),
        )
        if present
    ]
    if len(carried) > 1:
        _malformed(f"{' and '.join(carried)}: several authentication methods in one request (RFC 6749 2.3)")
    if basic is not None:
        return _basic_credentials(given.get("client_id"), *basic)
    if carried == ["client_assertion"]:
        return _assertion_credentials(given)
    client_id = given.get("client_id") or None
    if authorization:
        found = OTHER_SCHEME if authorization[0].strip() else "an empty Authorization header"
        return Credentials(client_id, found, frozenset(), standard=False)
    if carried:
        return Credentials(client_id, "client_secret in the body", frozenset({POST}))
    return Credentials(
        client_id, "client_id without credentials", frozenset({PUBLIC, PKI, SELF_SIGNED}), standard=False
    )


def _basic_credentials(client_id: str | None, user: str, secret: str) -> Credentials:
    if client_id and client_id != user:
        _malformed("client_id differs from the user name in the Authorization header; expected equal values")
    if not secret:
        return Credentials(user or None, "Basic with an empty secret", frozenset())
    return Credentials(user or None, "Basic", frozenset({BASIC}))


def _assertion_credentials(given: Mapping[str, str]) -> Credentials:
    """Read a client assertion, whose subject is the client (RFC 7523 3). A `client_id` must equal the subject.

    An assertion that cannot be parsed here belongs to no method, because its verifier could read another subject.
    """
    client_id = given.get("client_id") or None
    if given["client_assertion_type"] != _JWT_BEARER:
        return Credentials(client_id, f"a client_assertion_type other than {_JWT_BEARER}", frozenset())
    try:
        # The JWS Compact Serialization has three parts (RFC 7515 7.1).
        header, payload, _ = given["client_assertion"].split(".")
        algorithm, subject = _json_part(header).get("alg"), _json_part(payload).get("sub")
    except ValueError:
        return Credentials(client_id, "client_assertion that is not a readable signed JWT", frozenset())
    if subject is not None and (not isinstance(subject, str) or not subject):
        return Credentials(client_id, "client_assertion whose sub is not a string", frozenset())
    if subject is not None and client_id not in (None, subject):
        raise Refused("invalid_client", "client_id differs from the subject of client_assertion (RFC 7521 4.2)")
    return Credentials(subject or client_id, *_assertion_methods(algorithm))


def _assertion_methods(algorithm: object) -> tuple[str, frozenset[str]]:
    """Return a description for the log, and the methods to which an assertion with this `alg` can belong."""
    if algorithm is None:  # the application rejects the assertion, because a JWS must have an alg (RFC 7515 4.1.1)
        return "client_assertion without alg", frozenset({SECRET_JWT, PRIVATE_KEY_JWT})
    if not isinstance(algorithm, str) or algorithm.lower() in ("", "none"):
        return "client_assertion that is not signed", frozenset()
    if algorithm.upper().startswith("HS"):
        return "client_assertion with a MAC", frozenset({SECRET_JWT})
    return "client_assertion with a signature", frozenset({PRIVATE_KEY_JWT})


def _json_part(encoded: str) -> dict[str, Any]:
    """Decode one part of a JWT strictly, and return its JSON object. Raises `ValueError`."""
    return json_object(base64url_octets(encoded))


def _basic(authorization: str) -> tuple[str, str] | None:
    """Return the user name and the secret of HTTP Basic (RFC 6749 2.3.1), or `None` for another scheme."""
    scheme, _, credentials = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:  # decode strictly, because a server may have joined two field lines with a comma
        plain = base64_octets(credentials.strip()).decode("utf-8")
        user, colon, secret = plain.partition(":")
        user, secret = unquote_plus(user, errors="strict"), unquote_plus(secret, errors="strict")
    except ValueError:
        colon = ""
    if not colon:
        _malformed("Authorization: unreadable Basic credentials; expected base64 of client_id:client_secret")
    return user, secret


def _malformed(reason: str) -> NoReturn:
    raise Refused("invalid_request", reason)
