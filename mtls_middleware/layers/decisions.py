"""Logs each decision as a structured record: `record.mtls` of the logger `mtls_middleware.decision`, and observers.

A record never contains a token, a key or a header value: its evidence consists of messages of this package.
"""

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.layers.attached import Attached
from mtls_middleware.responses import Challenge, LayerResponse, response_for

logger: logging.Logger = logging.getLogger("mtls_middleware.decision")

# Characters of one value in a log line. Without a limit, a path of 60 kB makes a line of 240 kB. `record.mtls` has the
# whole value.
_MAX_VALUE = 1_000


class DecidingLayer(Protocol):
    """The layer that decided, or a route inside a layer."""

    @property
    def name(self) -> str: ...
    @property
    def challenge(self) -> Challenge: ...


class LoggedRequest(Protocol):
    """The parts of a request that are logged."""

    @property
    def method(self) -> str | None: ...
    @property
    def path(self) -> str | None: ...
    @property
    def attached(self) -> Attached | None: ...


class RequestFacts(NamedTuple):
    """The known parts of a request, for callers that have no `LayerRequest`."""

    attached: Attached | None
    method: str | None = None
    path: str | None = None


Observer = Callable[[Mapping[str, Any]], None]

_observers: list[Observer] = []


def observe(observer: Observer) -> Callable[[], None]:
    """Call `observer` with every record from now on, whatever the logger's level. Returns a function that ends this.

    The observer runs during the request, so it must be fast. An exception in it is logged, and changes no decision.

    Example: `stop = observe(lambda record: print(record["outcome"]))`
    """
    _observers.append(observer)
    return lambda: _observers.remove(observer)


def reject(layer: DecidingLayer, error: Exception, view: LoggedRequest | None) -> LayerResponse:
    """The response for an exception that a layer raised. Also logs the rejection.

    Levels: INFO for 4xx, WARNING for 503, ERROR for 500. The record of a 500 has a traceback but not the exception's
    message, because the message may quote a secret.
    """
    response = response_for(error, layer.challenge)
    facts = _facts(view) if _is_recorded(response.status) else {}
    _record_rejection("refused", layer, error, response.status, facts)
    return response


def record_closed(layer: DecidingLayer, error: Exception, view: LoggedRequest) -> None:
    """Log that the middleware closes a websocket. The field `open_for` is in seconds.

    The status is the one that the client gets if it connects again. The levels are those of `reject`.
    """
    status = response_for(error, layer.challenge).status
    facts = _facts(view) if _is_recorded(status) else {}
    _record_rejection("closed", layer, error, status, {**facts, "seconds": None, "open_for": facts.get("seconds")})


def _level(status: int) -> int:
    return logging.INFO if status < 500 else logging.WARNING if status == 503 else logging.ERROR


def _is_recorded(status: int) -> bool:
    return bool(_observers) or logger.isEnabledFor(_level(status))


def _record_rejection(
    outcome: str, layer: DecidingLayer, error: Exception, status: int, facts: Mapping[str, Any]
) -> None:
    if _is_recorded(status):
        record = {
            "outcome": outcome,
            "layer": layer.name,
            "status": status,
            "code": error.code if isinstance(error, Refused) else "server_error",
            "evidence": error.evidence if isinstance(error, Refused) else (type(error).__name__,),
            **facts,
        }
        _emit(_level(status), record)
    if isinstance(error, ConfigurationError):
        logger.error("%s", error)
    elif status == 500:
        logger.error("%s", "".join(traceback.format_tb(error.__traceback__)))


def record_allowed(layer: DecidingLayer, view: LoggedRequest) -> None:
    """Log that a request reaches the application, with level INFO."""
    if _observers or logger.isEnabledFor(logging.INFO):
        _emit(logging.INFO, {"outcome": "allowed", "layer": layer.name, **_facts(view)})


def _facts(view: LoggedRequest | None) -> dict[str, Any]:
    """The fields of a record that describe the request. `seconds`: the time since the outermost layer got it."""
    attached = None if view is None else view.attached
    certificate = None if attached is None else attached.certificate
    token = None if attached is None else attached.token
    client = None if attached is None else attached.client
    since = 0.0 if attached is None else attached.since
    return {
        "method": None if view is None else view.method,
        "path": None if view is None else view.path,
        "thumbprint": None if certificate is None else certificate.thumbprint,
        "verification": None if certificate is None else certificate.verification.name,
        "bound": None if token is None else token.bound,
        "cached": None if attached is None else attached.cached,
        "issuer": None if token is None else token.claims.get("iss"),
        "key_id": None if token is None else token.key_id,
        "client_id": token.client_id if token is not None else client.client_id if client is not None else None,
        "seconds": max(0.0, time.time() - since) if since else None,
    }


def _shortened(value: object) -> str:
    if isinstance(value, str) and len(value) > _MAX_VALUE:
        return f"{value[:_MAX_VALUE]!a} and {len(value) - _MAX_VALUE} more characters"
    return ascii(value)


def _emit(level: int, record: dict[str, Any]) -> None:
    for observer in tuple(_observers):  # a copy: an observer may remove another one
        try:
            observer(MappingProxyType(record))
        except Exception as error:  # noqa: BLE001 (an observer cannot change a decision)
            logger.error("an observer failed: %s", type(error).__name__)
    if logger.isEnabledFor(level):
        fields = {key: value for key, value in record.items() if value is not None and key != "outcome"}
        text = " ".join(f"{key}={_shortened(value)}" for key, value in fields.items())
        logger.log(level, "%s: %s", record["outcome"], text, extra={"mtls": record})
