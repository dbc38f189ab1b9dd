"""What the whole suite shares: reference data that may be absent, and the report of standards rows and cases shown."""

import gc
import os
from collections import defaultdict

import pytest
from hypothesis import HealthCheck, settings

from mtls_middleware import jwks
from mtls_middleware.cache import Cache
from mtls_middleware.integrations import certificate_user
from mtls_middleware.layers import decisions
from mtls_middleware.line_limit import LineLimit
from mtls_middleware.sources import header
from tests import shared

pytest_plugins = ["mtls_middleware.testing.plugin"]

# A busy machine may need any time for one example of a property test.
settings.register_profile("without deadline", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("without deadline")

# marker name -> id -> node ids of the tests that show it
Shown = dict[str, dict[str, set[str]]]
SHOWN = pytest.StashKey[Shown]()


@pytest.fixture(autouse=True)
def new_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test sees the first rejection of each cause, as in a new process."""
    monkeypatch.setattr(decisions, "_rejections", LineLimit())
    monkeypatch.setattr(header, "_lines", LineLimit())
    monkeypatch.setattr(certificate_user, "_lines", LineLimit())
    monkeypatch.setattr(jwks, "_logged", Cache(1_000))


def pytest_report_header() -> str | None:
    if shared.ROOT.is_dir():
        return None
    return f"reference data: none at {shared.ROOT}, the tests that read it are deselected (set MTLS_SHARED)"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not shared.ROOT.is_dir():
        if os.environ.get("CI"):
            raise pytest.UsageError(f"CI needs the reference data, and there is none at {shared.ROOT} (MTLS_SHARED)")
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("shared")])
        items[:] = [item for item in items if not item.get_closest_marker("shared")]
    shown: Shown = {"standard": defaultdict(set), "case": defaultdict(set)}
    for item in items:
        for name, ids in shown.items():
            for marker in item.iter_markers(name):
                for each in marker.args:
                    ids[each].add(item.nodeid)
    config.stash[SHOWN] = shown


def pytest_collection_finish() -> None:
    """Exempt the tests themselves from garbage collection: 22,000 of them make each full collection slow."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, ids in config.stash.get(SHOWN, {}).items():
        if ids:
            listed = " ".join(sorted(ids, key=lambda each: (each.rstrip("0123456789"), len(each), each)))
            terminalreporter.write_line(f"{name} ids shown by tests ({len(ids)}): {listed}")
