"""The applications that throughput is measured of protect what they say, behind the very servers; without wrk."""

from itertools import chain

import pytest

from mtls_middleware.testing import TokenIssuer
from tests.benchmarks import processor, stacks, throughput
from tests.benchmarks.throughput import Turn

PAIRS = [(contest.server, application) for contest in throughput.PYTHON for application in contest.applications]


@pytest.fixture(scope="module")
def credentials():
    return throughput.Credentials.made()


@pytest.mark.live
@pytest.mark.parametrize(("server", "application"), PAIRS, ids="-".join)
def test_a_protected_application_admits_only_the_client(server, application, credentials):
    with throughput.serving(server, application, credentials) as served:
        forged = TokenIssuer().token(certificate=stacks.client(), scopes=[stacks.SCOPE])  # by a key of its own
        headers = {**credentials.client, "Authorization": f"Bearer {forged}"}
        assert throughput.answer(served.port, headers) == (200 if application.endswith("bare") else 401)


@pytest.mark.live
def test_an_application_that_protects_less_than_it_says_is_not_measured(credentials, monkeypatch):
    command = throughput.SERVERS["waitress"]
    monkeypatch.setitem(throughput.SERVERS, "waitress", lambda _, port: command("flask_bare", port))
    with pytest.raises(AssertionError, match=r"\(200, 200, 200\) in place of \(200, 401, 401\)"):
        throughput.serving("waitress", "flask_ours", credentials).__enter__()


def test_every_contest_begins_with_the_bare_application():
    assert all(contest.applications[0].endswith("bare") for contest in chain(throughput.PYTHON, [throughput.NODE]))


def test_what_is_kept_is_compared_round_by_round():
    turns = {"bare": [Turn(100.0), Turn(50.0)], "ours": [Turn(95.0), Turn(45.0)]}
    assert throughput.kept(turns, "ours") == [0.95, 0.9]


def test_a_server_that_has_to_wait_hides_no_cost_from_the_processor_time():
    assert throughput.kept_of_processor({"bare": [Turn(100.0, 200.0)], "ours": [Turn(100.0, 150.0)]}, "ours") == 0.75


def test_processor_time_that_is_not_known_gives_no_share():
    assert throughput.kept_of_processor({"bare": [Turn(1.0)], "ours": [Turn(1.0)]}, "ours") is None
    assert processor.seconds(2**31) is None


@pytest.mark.live
@pytest.mark.parametrize("server", ["gunicorn gthread", "granian"])
def test_the_processor_time_of_workers_is_their_servers(server, credentials):
    application = {"granian": "starlette_bare"}.get(server, "flask_bare")
    with throughput.serving(server, application, credentials) as served:
        before = processor.seconds(served.process)
        for _ in range(300):
            throughput.answer(served.port, credentials.client)
        assert processor.seconds(served.process) > before


@pytest.mark.parametrize(
    ("report", "why"),
    [
        ("Requests/sec:   1000.00\n  Non-2xx or 3xx responses: 3\n", "refusals are quick, and no throughput"),
        ("Requests/sec:   1000.00\n  Socket errors: connect 0, read 1, write 0, timeout 0\n", "connections broke"),
        ("unable to connect\n", "nothing was measured"),
    ],
)
def test_a_run_with_anything_but_answers_of_200_counts_for_nothing(report, why, tmp_path, monkeypatch):
    program = tmp_path / "wrk"
    program.write_text(f"#!/bin/sh\nprintf '{report}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(AssertionError, match="not all requests"):
        throughput.wrk(1, {}, 1)


def test_a_missing_program_is_named_in_place_of_a_measurement(monkeypatch):
    monkeypatch.setattr(throughput, "lacking", lambda: "apt-get install wrk")
    (row,) = throughput.rows(quick=True)
    assert (row.ratio, row.note) == (None, "not measured: apt-get install wrk")
