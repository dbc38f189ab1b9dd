"""Exports decisions as OpenTelemetry metrics, and as attributes of the current span.

This module reads only the records of `layers/decisions.py`, which contain no token, key or header value.
"""

from collections.abc import Callable, Mapping
from typing import Any

from mtls_middleware import dependencies
from mtls_middleware.base64_values import sha256_digest
from mtls_middleware.errors import ConfigurationError, require_extra
from mtls_middleware.layers import decisions

# The histogram's bounds, in seconds. A cached decision takes microseconds. A decision that queries a server can take as
# long as the timeout.
_BOUNDS = (0.00001, 0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)

# The bounds of the histogram of days until certificates expire. A negative number means that the certificate has
# expired.
_DAYS = (0, 1, 3, 7, 14, 30, 60, 90, 180, 365)
_DAY_LABELS = ("outcome", "verification")

# The attributes of metrics. Each attribute has few values. Thumbprints or client ids would create a time series for
# each client.
_LABELS = ("outcome", "layer", "code", "verification", "bound", "cached")

# The record keys that become span attributes, with the prefix `mtls_middleware.`.
_ATTRIBUTES = ("outcome", "layer", "code", "verification", "bound", "cached", "issuer", "key_id", "client_id")


def observe(meter_provider: Any = None) -> Callable[[], None]:
    """Export each decision of this process to OpenTelemetry. Returns a function that stops the export.

    The metrics are the counter `mtls_middleware.decisions` and the histogram `mtls_middleware.decision.duration`, which
    measures the seconds from the start of the outermost layer to the decision; the histogram
    `mtls_middleware.certificate.expiry` of days until the client certificate expires; and the counter
    `mtls_middleware.events` of failures of key, introspection and CRL servers. If the current span is recording, it
    gets `mtls_middleware.outcome` and similar attributes, and `tls.client.hash.sha256` (upper-case hex), which is
    defined by OpenTelemetry's semantic conventions.

    Arguments:
        meter_provider: an OpenTelemetry `MeterProvider`; by default the global `MeterProvider`.

    Raises `ConfigurationError` if the extra `otel` is not installed.

    Example: call `stop = observe()` once, where the application configures OpenTelemetry.
    """
    require_extra("opentelemetry", "otel", "observe")
    from opentelemetry import metrics, trace

    if meter_provider is not None and not callable(getattr(meter_provider, "get_meter", None)):
        raise ConfigurationError(
            f"meter_provider={meter_provider!r}: expected an OpenTelemetry MeterProvider, or None for the global one"
        )
    meter = metrics.get_meter("mtls_middleware", meter_provider=meter_provider)
    count = meter.create_counter(
        "mtls_middleware.decisions", unit="{decision}", description="Decisions about requests and websockets"
    )
    duration = meter.create_histogram(
        "mtls_middleware.decision.duration",
        unit="s",
        description="Time from the start of the outermost layer to the decision",
        explicit_bucket_boundaries_advisory=_BOUNDS,
    )

    expiry = meter.create_histogram(
        "mtls_middleware.certificate.expiry",
        unit="d",
        description="Days until the client certificate of a request expires",
        explicit_bucket_boundaries_advisory=_DAYS,
    )
    events = meter.create_counter(
        "mtls_middleware.events",
        unit="{event}",
        description="Failures of key, introspection and CRL servers, and revocation lists that expire soon",
    )

    def export(record: Mapping[str, Any]) -> None:
        labels = {name: record[name] for name in _LABELS if record.get(name) is not None}
        count.add(1, labels)
        if record.get("seconds") is not None:
            duration.record(record["seconds"], labels)
        if record.get("expires_in_days") is not None:
            expiry.record(record["expires_in_days"], {name: record[name] for name in _DAY_LABELS if record.get(name)})
        span = trace.get_current_span()
        if span.is_recording():
            attributes = {
                f"mtls_middleware.{name}": record[name] for name in _ATTRIBUTES if record.get(name) is not None
            }
            if record.get("thumbprint") is not None:
                digest = sha256_digest(record["thumbprint"]) or b""
                attributes["tls.client.hash.sha256"] = digest.hex().upper()
            span.set_attributes(attributes)

    stops = (decisions.observe(export), dependencies.observe(lambda event, _: events.add(1, {"event": event})))

    def stop() -> None:
        for each in stops:
            each()

    return stop
