"""Decisions as OpenTelemetry metrics, which Prometheus may read, and as attributes of the span that they fall in.

Must never know: requests. It is told the records of `records.py`, which hold no token, key or header value.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from mtls_middleware.errors import ConfigurationError, require_extra
from mtls_middleware.layers import decisions

# The bounds of seconds that a decision takes: a remembered one microseconds, one that asks a server up to its timeout.
_BOUNDS = (0.00001, 0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)

# What metrics are told apart by: few values each. Thumbprints and client ids would make a series for each client.
_LABELS = ("outcome", "layer", "code", "verification", "bound", "cached")

# What a span is told: `tls.client.*` by OpenTelemetry's semantic conventions, the others our own.
_ATTRIBUTES = ("outcome", "layer", "code", "verification", "bound", "cached", "issuer", "key_id", "client_id")


def observe(meter_provider: Any = None) -> Callable[[], None]:
    """From now on each decision of this process is measured; the answer is a function that ends it.

    Metrics: the counter `mtls_middleware.decisions` and the histogram `mtls_middleware.decision.duration` (seconds,
    from the outermost layer on). Spans: the current one, where one is recording, gets `mtls_middleware.outcome` and the
    like, and `tls.client.hash.sha256` (upper-case hex).

    Arguments:
        meter_provider: OpenTelemetry's; default: the one that is set globally.

    Raises `ConfigurationError` where the extra `otel` is not installed.

    Example: `stop = observe()`, once, where the application configures OpenTelemetry
    """
    require_extra("opentelemetry", "otel", "observe")
    from opentelemetry import metrics, trace

    if meter_provider is not None and not callable(getattr(meter_provider, "get_meter", None)):
        raise ConfigurationError(f"meter_provider={meter_provider!r}: a MeterProvider, or none for the global one")
    meter = metrics.get_meter("mtls_middleware", meter_provider=meter_provider)
    count = meter.create_counter(
        "mtls_middleware.decisions", unit="{decision}", description="Requests let through or refused"
    )
    duration = meter.create_histogram(
        "mtls_middleware.decision.duration",
        unit="s",
        description="From the outermost layer to the decision",
        explicit_bucket_boundaries_advisory=_BOUNDS,
    )

    def measured(record: Mapping[str, Any]) -> None:
        labels = {name: record[name] for name in _LABELS if record.get(name) is not None}
        count.add(1, labels)
        if record.get("seconds") is not None:
            duration.record(record["seconds"], labels)
        span = trace.get_current_span()
        if span.is_recording():
            told = {f"mtls_middleware.{name}": record[name] for name in _ATTRIBUTES if record.get(name) is not None}
            if record.get("thumbprint") is not None:
                digest = base64.urlsafe_b64decode(record["thumbprint"] + "=")
                told["tls.client.hash.sha256"] = digest.hex().upper()
            span.set_attributes(told)

    return decisions.observe(measured)
