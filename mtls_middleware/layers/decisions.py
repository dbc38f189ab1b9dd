"""What was decided, one structured record each: for the operator alone, in `record.mtls` of `mtls_middleware.decision`.

Must never know: why. Reasons come as evidence, short texts of ours; no token, key or header value is ever among them.
"""

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.layers.attached import Attached
from mtls_middleware.responses import Challenge, LayerResponse, answer

logger: logging.Logger = logging.getLogger("mtls_middleware.decision")

# Characters of one value in a log line. A path of 60 kB made a line of 240 kB. `record.mtls` has the whole value.
_LONGEST = 1_000


class Layer(Protocol):
    """Who decided: a layer, or a route inside of one."""

    @property
    def name(self) -> str: ...
    @property
    def challenge(self) -> Challenge: ...


class Request(Protocol):
    """What of a request is told."""

    @property
    def method(self) -> str | None: ...
    @property
    def path(self) -> str | None: ...
    @property
    def attached(self) -> Attached | None: ...


class RequestFacts(NamedTuple):
    """A request of which no more is known."""

    attached: Attached | None
    method: str | None = None
    path: str | None = None


Observer = Callable[[Mapping[str, Any]], None]

_observers: list[Observer] = []


def observe(observer: Observer) -> Callable[[], None]:
    """From now on `observer` is told every record, whatever the logger's level; the answer is a function that ends it.

    It runs within the request: let it be quick. What it raises is logged, and changes no decision.

    Example: `stop = observe(lambda record: print(record["outcome"]))`
    """
    _observers.append(observer)
    return lambda: _observers.remove(observer)


def refused(layer: Layer, error: Exception, view: Request | None) -> LayerResponse:
    """The answer for what a layer raised, and the record that says why.

    4xx are a client's doing: INFO. 503 is WARNING, 500 ERROR with the place but without the exception's text, which may
    quote what was being read.
    """
    response = answer(error, layer.challenge)
    _rejected("refused", layer, error, response.status, _facts(view) if _wanted(response.status) else {})
    return response


def closed(layer: Layer, error: Exception, view: Request) -> None:
    """The record for a websocket that the middleware closes, with `open_for`: seconds since it was let through.

    Levels as for a refusal: the status is the one that the client gets if it connects again.
    """
    status = answer(error, layer.challenge).status
    facts = _facts(view) if _wanted(status) else {}
    _rejected("closed", layer, error, status, {**facts, "seconds": None, "open_for": facts.get("seconds")})


def _level(status: int) -> int:
    return logging.INFO if status < 500 else logging.WARNING if status == 503 else logging.ERROR


def _wanted(status: int) -> bool:
    return bool(_observers) or logger.isEnabledFor(_level(status))


def _rejected(outcome: str, layer: Layer, error: Exception, status: int, facts: Mapping[str, Any]) -> None:
    if _wanted(status):
        record = {
            "outcome": outcome,
            "layer": layer.name,
            "status": status,
            "code": error.code if isinstance(error, Refused) else "server_error",
            "evidence": error.evidence if isinstance(error, Refused) else (type(error).__name__,),
            **facts,
        }
        _tell(_level(status), record)
    if isinstance(error, ConfigurationError):
        logger.error("%s", error)
    elif status == 500:
        logger.error("%s", "".join(traceback.format_tb(error.__traceback__)))


def allowed(layer: Layer, view: Request) -> None:
    """The record for a request that reaches the application, where somebody wants it: level INFO."""
    if _observers or logger.isEnabledFor(logging.INFO):
        _tell(logging.INFO, {"outcome": "allowed", "layer": layer.name, **_facts(view)})


def _facts(view: Request | None) -> dict[str, Any]:
    """What is known of a request, whatever came of it. `seconds`: since the outermost layer got it."""
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


def _shown(value: object) -> str:
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"{value[:_LONGEST]!a} and {len(value) - _LONGEST} characters more"
    return ascii(value)


def _tell(level: int, record: dict[str, Any]) -> None:
    for observer in tuple(_observers):  # one of them may end another
        try:
            observer(MappingProxyType(record))
        except Exception as error:  # noqa: BLE001 (whatever is wrong with it, the decision stands)
            logger.error("an observer failed: %s", type(error).__name__)
    if logger.isEnabledFor(level):
        told = {key: value for key, value in record.items() if value is not None and key != "outcome"}
        text = " ".join(f"{key}={_shown(value)}" for key, value in told.items())
        logger.log(level, "%s: %s", record["outcome"], text, extra={"mtls": record})
