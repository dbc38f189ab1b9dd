"""Decisions as OpenTelemetry's own SDK and Prometheus' own exporter show them."""

import contextlib
import logging
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from mtls_middleware import ConfigurationError, dependencies
from mtls_middleware.integrations.telemetry import observe
from mtls_middleware.layers import decisions
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import Request, both_gateways, send

SPANS = InMemorySpanExporter()
TRACER = TracerProvider()
TRACER.add_span_processor(SimpleSpanProcessor(SPANS))


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    stop = observe(provider)
    yield reader
    stop()
    provider.shutdown()


def ask(gateway: str, issuer: TokenIssuer, certificate: IssuedCertificate | None, token: str | None) -> int:
    def wrap(module: Any, app: Any) -> Any:
        return module.protect(app, source=ServerTLS(), tokens=issuer.access_tokens())

    headers = [] if token is None else [("Authorization", f"Bearer {token}")]
    return send(gateway, wrap, Request(path="/invoices", tls=certificate, headers=headers)).status


def points(reader: InMemoryMetricReader, name: str) -> list[Any]:
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = [
        each for r in data.resource_metrics for s in r.scope_metrics for each in s.metrics if each.name == name
    ]
    return list(metric.data.data_points)


@both_gateways
def test_decision_counters_have_labels_that_identify_no_client(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, reader: InMemoryMetricReader
) -> None:
    token = mtls_issuer.token(certificate=mtls_client)
    assert ask(gateway, mtls_issuer, mtls_client, token) == 200
    assert ask(gateway, mtls_issuer, None, token) == 401
    assert ask(gateway, mtls_issuer, None, token) == 401
    counted = {
        (point.attributes["outcome"], point.attributes.get("code")): point.value
        for point in points(reader, "mtls_middleware.decisions")
    }
    assert counted == {("allowed", None): 1, ("refused", "invalid_token"): 2}
    labels = {name for point in points(reader, "mtls_middleware.decisions") for name in point.attributes}
    assert labels <= {"outcome", "layer", "code", "verification", "bound", "cached"}
    durations = points(reader, "mtls_middleware.decision.duration")
    assert sum(point.count for point in durations) == 3
    assert all(0 <= point.min <= point.max < 60 for point in durations)


@both_gateways
def test_the_span_of_the_request_says_what_was_decided(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, reader: InMemoryMetricReader
) -> None:
    SPANS.clear()
    token = mtls_issuer.token(certificate=mtls_client)
    with TRACER.get_tracer("tests").start_as_current_span("GET /invoices"):
        assert ask(gateway, mtls_issuer, mtls_client, token) == 200
    (span,) = SPANS.get_finished_spans()
    report = dict(span.attributes or {})
    assert report["mtls_middleware.outcome"] == "allowed"
    assert report["mtls_middleware.issuer"] == mtls_issuer.issuer
    assert report["mtls_middleware.client_id"] == "client"
    assert report["tls.client.hash.sha256"] == mtls_client.client_certificate().digest.hex().upper()
    assert token not in str(report)


@contextlib.contextmanager
def prometheus() -> Iterator[CollectorRegistry]:
    """Export to Prometheus' own registry until the end of the block."""
    registry, reader = CollectorRegistry(), PrometheusMetricReader()
    registry.register(reader._collector)
    provider = MeterProvider(metric_readers=[reader])
    stop = observe(provider)
    try:
        yield registry
    finally:
        stop()
        provider.shutdown()


def test_prometheus_shows_them(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    with prometheus() as registry:
        ask("wsgi", mtls_issuer, mtls_client, None)
        page = generate_latest(registry).decode()
    (line,) = [each for each in page.splitlines() if each.startswith("mtls_middleware_decisions_total{")]
    assert 'code="missing_token"' in line
    assert 'outcome="refused"' in line
    assert line.endswith(" 1.0")
    assert "mtls_middleware_decision_duration_seconds_bucket" in page


def test_nothing_is_measured_any_more_when_it_was_stopped(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    records: list[Any] = []
    stop = decisions.observe(records.append)
    ask("wsgi", mtls_issuer, mtls_client, None)
    stop()
    ask("wsgi", mtls_issuer, mtls_client, None)
    assert [each["code"] for each in records] == ["missing_token"]


@both_gateways
def test_an_observer_that_fails_changes_no_decision(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(record: Any) -> None:
        raise RuntimeError(record["thumbprint"])

    token = mtls_issuer.token(certificate=mtls_client)
    stop = decisions.observe(broken)
    try:
        with caplog.at_level(logging.ERROR):
            assert ask(gateway, mtls_issuer, mtls_client, token) == 200
            assert ask(gateway, mtls_issuer, mtls_client, None) == 401
    finally:
        stop()
    assert [each.getMessage() for each in caplog.records] == ["an observer failed: RuntimeError"] * 2


def test_an_invalid_meter_provider_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="meter_provider="):
        observe("http://collector:4317")


def test_days_until_expiry_are_a_histogram_without_labels_of_a_client(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, reader: InMemoryMetricReader
) -> None:
    assert ask("wsgi", mtls_issuer, mtls_client, mtls_issuer.token(certificate=mtls_client)) == 200
    (point,) = points(reader, "mtls_middleware.certificate.expiry")
    assert dict(point.attributes) == {"outcome": "allowed", "verification": "BY_SERVER"}
    assert (point.count, point.min) == (1, 89)


def test_events_are_counted_until_the_export_ends(reader: InMemoryMetricReader) -> None:
    dependencies.report("keys_failed", "fetching https://as.example/jwks failed: status 500")
    (point,) = points(reader, "mtls_middleware.events")
    assert (dict(point.attributes), point.value) == ({"event": "keys_failed"}, 1)


def test_an_observer_of_events_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def raises(event: str, reason: str) -> None:
        raise RuntimeError("secret")

    stop = dependencies.observe(raises)
    try:
        dependencies.report("keys_failed", "x")
    finally:
        stop()
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_every_metric_of_the_alert_rules_is_exported_with_these_labels(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text("utf-8")
    rules = yaml.safe_load(re.findall(r"```yaml\n(groups:.*?)```", page, re.DOTALL)[0])["groups"][0]["rules"]
    with prometheus() as registry:
        ask("wsgi", mtls_issuer, mtls_client, mtls_issuer.token(certificate=mtls_client))
        ask("wsgi", mtls_issuer, None, None)
        for event in typing.get_args(dependencies.Event):
            dependencies.report(event, "x")
        text = generate_latest(registry).decode()
    used = {name for rule in rules for name in re.findall(r"mtls_middleware_\w+", rule["expr"])}
    assert used == {
        "mtls_middleware_certificate_expiry_days_bucket",
        "mtls_middleware_decisions_total",
        "mtls_middleware_events_total",
    }
    for name in used:
        assert f"\n{name}{{" in text, text
    (bounds,) = re.findall(r'le=~"([^"]*)"', "".join(rule["expr"] for rule in rules))
    assert [bound for bound in bounds.split("|") if f'le="{bound}"' in text] == ["14"]
    assert {'event="keys_failed"', 'event="revocation_list_ending"'} <= set(re.findall(r'event="\w+"', text))
