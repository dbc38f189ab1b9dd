"""Who takes part at a token endpoint: clients, their JWK Sets, and one question put to an authenticator."""

import asyncio
import base64
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mtls_middleware import ClientCertificate, Refused, RegisteredClient, Verification
from mtls_middleware.testing import IssuedCertificate
from mtls_middleware.token_endpoint import ClientAuthenticator, ClientRequest

EC_KEY = ec.generate_private_key(ec.SECP256R1())
PKI, SELF_SIGNED = "tls_client_auth", "self_signed_tls_client_auth"

# What an authenticator decides, by either driver.
Ask = Callable[..., RegisteredClient | None]


def pki(client_id: str = "billing", **subject: Any) -> RegisteredClient:
    """A client of `tls_client_auth`: `pki(subject_dn="CN=billing")`, `pki(san_dns="billing.internal")`."""
    named = {name if name == "trust_store" else f"tls_client_auth_{name}": value for name, value in subject.items()}
    return RegisteredClient(client_id=client_id, token_endpoint_auth_method=PKI, **named)


def own_certificates(*issued: IssuedCertificate, client_id: str = "edge", **options: Any) -> RegisteredClient:
    """A client of `self_signed_tls_client_auth` with these certificates in its `jwks`."""
    keys = options or {"jwks": jwks(*issued)}
    return RegisteredClient(client_id=client_id, token_endpoint_auth_method=SELF_SIGNED, **keys)


def jwk(issued: IssuedCertificate, **members: Any) -> dict[str, Any]:
    """The public key as a JWK with the certificate in `x5c` (RFC 8705 2.2.2), `None` removes a member."""
    return {name: value for name, value in {**_described(issued), **members}.items() if value is not None}


def _described(issued: IssuedCertificate) -> dict[str, Any]:
    kinds = {ec.EllipticCurvePrivateKey: "ES256", rsa.RSAPrivateKey: "RS256"}
    name = next((name for kind, name in kinds.items() if isinstance(issued.key, kind)), "EdDSA")
    described = jwt.get_algorithm_by_name(name).to_jwk(issued.key.public_key(), as_dict=True)
    return {**described, "x5c": [base64.b64encode(issued.der).decode("ascii")]}


def jwks(*issued: IssuedCertificate) -> dict[str, Any]:
    return {"keys": [jwk(each) for each in issued]}


def basic(user: str, password: str = "secret") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def assertion(subject: str, *, key: Any = EC_KEY, algorithm: str = "ES256", **header: Any) -> list[tuple[str, str]]:
    """The form fields of a client assertion (RFC 7523 2.2), signed, with `subject` as the client."""
    claims = {"iss": subject, "sub": subject, "aud": "https://as.example", "exp": int(time.time()) + 60, "jti": "1"}
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    return [
        ("client_assertion_type", kind),
        ("client_assertion", jwt.encode(claims, key, algorithm, headers=header or None)),
    ]


def authentication_result(
    authenticator: ClientAuthenticator,
    certificate: IssuedCertificate | ClientCertificate | None,
    *,
    client_id: str | None = "billing",
    form: Iterable[tuple[str, str]] = (),
    now: float | None = None,
    awaiting: bool = False,
    **rest: Any,
) -> RegisteredClient | None:
    """The authenticator's answer to a request of `client_id` with what a server verified, unless it says otherwise."""
    if isinstance(certificate, IssuedCertificate):
        certificate = certificate.client_certificate()
    fields = [("grant_type", "client_credentials"), *([] if client_id is None else [("client_id", client_id)]), *form]
    request = ClientRequest(fields, certificate, **rest)
    moment = time.time() if now is None else now
    if awaiting:
        return asyncio.run(authenticator.authenticate_async(request, moment))
    return authenticator.authenticate(request, moment)


def presented(issued: IssuedCertificate) -> ClientCertificate:
    return issued.client_certificate(Verification.PRESENTED)


@contextmanager
def refused(code: str = "invalid_client") -> Iterator[pytest.ExceptionInfo[Refused]]:
    """Demand a refusal with this code."""
    with pytest.raises(Refused) as caught:
        yield caught
    assert caught.value.code == code
