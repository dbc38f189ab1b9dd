"""Decides how long a websocket may stay open, by repeated checks of its credentials.

This module performs no I/O and reads no clock.
"""

from collections.abc import Callable
from typing import Literal, TypeVar

from mtls_middleware import options
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.flow import Flow
from mtls_middleware.layers.interface import LayerRequest
from mtls_middleware.reusable import decide
from mtls_middleware.validation.chain_validator import ChainValidator
from mtls_middleware.validity import require_valid

L = TypeVar("L")

# When the middleware closes a websocket. "certificate": when its certificate expires or is revoked. "credentials": when
# its certificate or its token expires or is revoked. "connection": never.
WebsocketLifetime = Literal["certificate", "credentials", "connection"]
# Checks an open websocket at a time in seconds since the epoch. Raises `Refused` if the websocket must be closed.
Recheck = Callable[[float], Flow[None] | None]


def check_websocket_lifetime(lifetime: WebsocketLifetime) -> WebsocketLifetime:
    """Raises `ConfigurationError` unless the argument is one of the three strings."""
    return options.one_of("websocket_lifetime", lifetime, ("certificate", "credentials", "connection"))


def rechecks(layer: L, view: LayerRequest) -> list[tuple[L, Recheck]]:
    """Return the checks that a layer repeats for a websocket that it has just accepted.

    `view.attached` must already contain the certificate or token that this layer attached.
    """
    method = getattr(layer, "rechecks", None)
    return [] if method is None else [(layer, recheck) for recheck in method(view)]


def certificate_recheck(
    certificate: ClientCertificate,
    store: ChainValidator | None,
    *,
    clock_skew: float | None,
    allow: Callable[[ClientCertificate], None] | None,
) -> Recheck | None:
    """Return a function that validates the certificate again; `None` if the result cannot change.

    Arguments:
        store: the trust store that validates the certificate, if there is one.
        clock_skew: tolerance in seconds; `None` if the validity period is not checked.
        allow: applies the rule, and raises `Refused`; `None` if the result of the rule cannot change.
    """
    if store is None and allow is None and (clock_skew is None or not certificate.verified):
        return None

    def check(found: ClientCertificate, now: float) -> None:
        if clock_skew is not None and found.verified:
            require_valid(found, now, clock_skew)
        if allow is not None:
            allow(found)

    # Validate the certificate without its path: the store may find a different path, with a different validity period.
    leaf = certificate.with_verification(certificate.verification)

    def recheck(now: float) -> Flow[None] | None:
        # These checks need no I/O, so they are made even if the store has not finished an earlier recheck.
        check(certificate if store is None else leaf, now)
        return None if store is None else validate(store, now)

    def validate(store: ChainValidator, now: float) -> Flow[None]:
        validated = yield from decide(store, certificate, now)
        check(validated.value, now)

    return recheck
