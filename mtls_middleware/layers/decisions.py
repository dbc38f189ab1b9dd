"""Logs each decision as a structured record: `record.mtls` of the logger `mtls_middleware.decision`, and observers.

A record never contains a token, a key or a secret: its evidence consists of messages of this package.
docs/operations.md lists the fields of a record.
"""

import logging
import time
import traceback
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from mtls_middleware import options
from mtls_middleware.cache import Cache
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, MalformedCertificate, Refused
from mtls_middleware.layers.attached import Attached
from mtls_middleware.line_limit import LineLimit, raised_at
from mtls_middleware.observers import Observers
from mtls_middleware.responses import Challenge, LayerResponse, response_for

logger: logging.Logger = logging.getLogger("mtls_middleware.decision")

# The version of the fields in a record. It changes if a field is removed or gets another meaning, but not if a field is
# added.
SCHEMA = 1
# Maximum number of characters of one value in a log line. Without a limit, a path of 60 kB would make a line of 240 kB.
# `record.mtls` contains the whole value.
_MAX_VALUE = 1_000
# Maximum number of characters of one presented value in `found`, for example of a claim. A client chooses these values.
_MAX_FOUND = 200
_DAY = 86_400


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
    @property
    def origin(self) -> str | None:
        """The peer's address."""


class RequestFacts(NamedTuple):
    """The known parts of a request, for callers that have no `LayerRequest`."""

    attached: Attached | None
    method: str | None = None
    path: str | None = None
    origin: str | None = None


Observer = Callable[[Mapping[str, Any]], None]

_observers: Observers[Mapping[str, Any]] = Observers(logger)
_rejections = LineLimit()
# Thumbprint -> the day (UTC) of the last warning that the certificate expires soon.
_warned: Cache[str, int] = Cache(10_000)


class _Options(NamedTuple):
    log_names: bool = False
    warn_days: int = 30


_options = _Options()


def configure(*, log_names: bool = False, warn_days: int = 30) -> None:
    """Set what this process logs. Call it once, where the application configures its logging.

    Arguments:
        log_names: whether the record of a rejection has the names in the client certificate: `subject`, `dns_names`,
            `uris`, `email_addresses` and `user_principal_names`. They may be personal data, and a client chooses them
            if the certificate is not verified.
        warn_days: an accepted certificate that expires in fewer days causes one WARNING a day for each thumbprint. With
            0, no warning is logged.

    Raises `ConfigurationError`. Example: `configure(log_names=True)`
    """
    global _options  # noqa: PLW0603 (like the loggers, it is for the whole process)
    options.boolean("log_names", log_names)
    _options = _Options(log_names, options.integer("warn_days", warn_days, 0, 3_650, 30))


def observe(observer: Observer) -> Callable[[], None]:
    """Call `observer` with every record from now on, whatever the logger's level is.

    Returns a function that unregisters it.

    The observer runs during the request, so it must be fast. An exception in it is logged, and changes no decision.

    Example: `stop = observe(lambda record: print(record["outcome"]))`
    """
    return _observers.add(observer)


def reject(layer: DecidingLayer, error: Exception, view: LoggedRequest | None) -> LayerResponse:
    """Return the response for an exception that a layer raised, and log the rejection.

    The level is INFO for 4xx, or WARNING for the first rejection with each cause in this process; WARNING for 503; and
    ERROR for 500. The record of a 500 has a traceback but not the exception's message, because the message may quote a
    secret.
    """
    response = response_for(error, layer.challenge)
    _record_rejection("refused", layer, error, response.status, view)
    return response


def record_closed(layer: DecidingLayer, error: Exception, view: LoggedRequest) -> None:
    """Log that the middleware closes a websocket. The field `open_for` is in seconds.

    The logged status is the status that the client would get for a new connection. The levels are those of `reject`.
    """
    _record_rejection("closed", layer, error, response_for(error, layer.challenge).status, view)


def _record_rejection(
    outcome: str, layer: DecidingLayer, error: Exception, status: int, view: LoggedRequest | None
) -> None:
    refusal = error if isinstance(error, Refused) else Refused("server_error", type(error).__name__)
    cause = (outcome, layer.name, refusal.code, refusal.advice or raised_at(error))
    level = logging.WARNING if status == 503 else logging.ERROR if status >= 500 else logging.INFO
    is_first = level == logging.INFO and _rejections.is_first(cause)
    if is_first:
        level = logging.WARNING
    is_logged = False
    if _observers.functions or logger.isEnabledFor(level):
        record = {
            "schema": SCHEMA,
            "outcome": outcome,
            "layer": layer.name,
            "status": status,
            "code": refusal.code,
            "evidence": refusal.evidence,
            "found": {name: _presented(value) for name, value in refusal.found.items()} or None,
            "expected": dict(refusal.expected) or None,
            "advice": refusal.advice,
            "left_out": None,
            **_facts(view),
        }
        if _options.log_names:
            record |= _names(view)
        if outcome == "closed":
            record |= {"seconds": None, "open_for": record["seconds"]}
        is_logged = _emit(level, record, cause, is_first=is_first)
    if not is_logged:
        return
    if isinstance(error, ConfigurationError):
        logger.error("%s", error)
    elif status == 500:
        logger.error("%s", "".join(traceback.format_tb(error.__traceback__)))


def record_allowed(layer: DecidingLayer, view: LoggedRequest) -> None:
    """Log that a request reaches the application, with level INFO. Also warns if its certificate expires soon."""
    if _observers.functions or logger.isEnabledFor(logging.INFO):
        _emit(logging.INFO, {"schema": SCHEMA, "outcome": "allowed", "layer": layer.name, **_facts(view)})
    certificate = None if view.attached is None else view.attached.certificate
    if certificate is None or not certificate.verified:
        return
    try:
        seconds = certificate.period[1] - time.time()
    except MalformedCertificate:
        return
    if seconds < _options.warn_days * _DAY:
        _warn_of_expiry(certificate.thumbprint, int(seconds // _DAY))


def _warn_of_expiry(thumbprint: str, days: int) -> None:
    """Log a warning, unless a warning about this certificate was logged today."""
    today = int(time.time() // _DAY)
    if _warned.get(thumbprint) != today:
        _warned.put(thumbprint, today)
        logger.warning("the client certificate %s expires in %d days; renew it, or change warn_days=", thumbprint, days)


def _facts(view: LoggedRequest | None) -> dict[str, Any]:
    """Return the fields of a record that describe the request.

    `seconds`: the time since the outermost layer got the request.
    """
    attached = None if view is None else view.attached
    certificate = _certificate(view)
    token = None if attached is None else attached.token
    client = None if attached is None else attached.client
    since = 0.0 if attached is None else attached.since
    return {
        "method": None if view is None else view.method,
        "path": None if view is None else view.path,
        "peer": _peer(view),
        "thumbprint": None if certificate is None else certificate.thumbprint,
        "verification": None if certificate is None else certificate.verification.name,
        "expires_in_days": None if certificate is None else _days_left(certificate),
        "bound": None if token is None else token.bound,
        "cached": None if attached is None else attached.cached,
        "issuer": None if token is None else token.claims.get("iss"),
        "key_id": None if token is None else token.key_id,
        "client_id": token.client_id if token is not None else client.client_id if client is not None else None,
        "seconds": max(0.0, time.time() - since) if since else None,
    }


def _certificate(view: LoggedRequest | None) -> ClientCertificate | None:
    """Return the certificate that is attached, or that a layer rejects."""
    attached = None if view is None else view.attached
    return None if attached is None else attached.certificate or attached.presented


def _peer(view: LoggedRequest | None) -> str | None:
    try:
        return None if view is None else view.origin
    except Exception:  # noqa: BLE001 (a server may describe its peer in an unusual way, and a record changes no decision)
        return None


def _days_left(certificate: ClientCertificate) -> int | None:
    """Return the whole days until the certificate, or its validated path, expires.

    The number is negative after the expiry.

    Returns `None` if the validity period cannot be read.
    """
    try:
        return int((certificate.period[1] - time.time()) // _DAY)
    except MalformedCertificate:
        return None


def _names(view: LoggedRequest | None) -> dict[str, Any]:
    """Return the names in the client certificate. The result is empty if any name cannot be read."""
    certificate = _certificate(view)
    if certificate is None:
        return {}
    try:
        return {
            "subject": certificate.subject,
            "dns_names": certificate.dns_names,
            "uris": certificate.uris,
            "email_addresses": certificate.email_addresses,
            "user_principal_names": certificate.user_principal_names,
        }
    except MalformedCertificate:
        return {}


def _presented(value: object) -> object:
    """Return a value that a client presented, shortened to the maximum length."""
    text = value if isinstance(value, str) else repr(value)
    return value if len(text) <= _MAX_FOUND else f"{text[:_MAX_FOUND]}..."


def _as_text(value: object) -> str:
    if isinstance(value, str) and len(value) > _MAX_VALUE:
        # The number of characters is outside of the quotes, so that a client cannot forge it.
        return f"{value[:_MAX_VALUE]!a} and {len(value) - _MAX_VALUE} more characters"
    text = ascii(value)
    longest = 4 * _MAX_VALUE
    return text if len(text) <= longest else f"{text[:longest]} and {len(text) - longest} more characters"


def _emit(level: int, record: dict[str, Any], cause: Hashable = None, *, is_first: bool = False) -> bool:
    """Pass the record to the observers and to the logger.

    `cause`: the cause of a rejection, for the limit on similar lines.

    Returns whether the logger got the record.
    """
    _observers.tell(MappingProxyType(record))
    if not logger.isEnabledFor(level):
        return False
    if cause is not None:
        left_out = _rejections.admit(cause, time.time())
        if left_out is None:
            return False
        record = {**record, "left_out": left_out or None}
    fields = {key: value for key, value in record.items() if value is not None and key not in _NOT_IN_TEXT}
    text = " ".join(f"{key}={_as_text(value)}" for key, value in fields.items())
    advice = record.get("advice")
    if advice or is_first:
        text += f"; what to change: {advice or _PAGE.format(record['code'])}"
    if is_first:
        text += "; further ones like this are logged with level INFO"
    logger.log(level, "%s: %s", record["outcome"], text, extra={"mtls": record})
    return True


_PAGE = "the reason is in evidence; docs/troubleshooting.md explains the code {}"
_NOT_IN_TEXT = ("schema", "outcome", "advice")
