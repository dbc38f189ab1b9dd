"""How long a websocket may stay open: the decisions that are made again while it is open. Pure: no I/O, no clock."""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.layers.interface import LayerRequest
from mtls_middleware.resource_server.claims import check_expiry
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.reusable import decide
from mtls_middleware.validation.chain_validator import ChainValidator
from mtls_middleware.validity import require_valid

L = TypeVar("L")

# When a websocket ends: with its certificate, also with its token, or with the connection alone.
WebsocketLifetime = Literal["certificate", "credentials", "connection"]
# A decision about an open websocket at a time in seconds since the epoch. Raises `Refused` if the websocket must end.
Recheck = Callable[[float], Flow[None] | None]


def check_websocket_lifetime(given: WebsocketLifetime) -> WebsocketLifetime:
    """Raises `ConfigurationError` for anything but the three words."""
    if not isinstance(given, str) or given not in ("certificate", "credentials", "connection"):
        raise ConfigurationError(
            f"websocket_lifetime={given!r}: expected 'certificate' (the default), 'credentials' or 'connection'"
        )
    return given


def rechecks(layer: L, view: LayerRequest) -> list[tuple[L, Recheck]]:
    """What may close a websocket that this layer has just let through. `view` has what this layer attached."""
    found = getattr(layer, "rechecks", None)
    return [] if found is None else [(layer, again) for again in found(view)]


def certificate_recheck(
    certificate: ClientCertificate,
    store: ChainValidator | None,
    *,
    clock_skew: float | None,
    allow: Callable[[ClientCertificate], None] | None,
) -> Recheck | None:
    """Validate the certificate again. `None` if nothing about it can change.

    `clock_skew`: `None` if its period is not checked. `allow`: a rule whose answer can change.
    """
    if store is None and allow is None and (clock_skew is None or not certificate.verified):
        return None

    def judge(found: ClientCertificate, now: float) -> None:
        if clock_skew is not None and found.verified:
            require_valid(found, now, clock_skew)
        if allow is not None:
            allow(found)

    leaf = certificate.vouched_for(certificate.verification)  # without the path, which the store may replace

    def again(now: float) -> Flow[None] | None:
        # At once, even while the store is still busy with an earlier recheck.
        judge(certificate if store is None else leaf, now)
        return None if store is None else validate(store, now)

    def validate(store: ChainValidator, now: float) -> Flow[None]:
        validated = yield from decide(store, certificate, now)
        judge(validated.value, now)

    return again


def token_recheck(token: AccessToken, tokens: object, lifetime: WebsocketLifetime) -> Recheck | None:
    """Ask the validator about the token, or about the certificate that it is bound to. `None` if nothing can change.

    A validator without `check_later` has no leeway here: the token ends at its `expires_at`.
    """
    if lifetime == "connection":
        return None
    check = getattr(tokens, "check_later" if lifetime == "credentials" else "check_certificate_later", None)
    if callable(check):
        return partial(check, token)
    return partial(check_expiry, token) if lifetime == "credentials" else None
