"""The tour as a newcomer runs it, the lines for curl that it prints, and its judgement of answers."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

TOUR = Path(__file__).resolve().parents[2] / "samples" / "tour"


def test_the_tour_shows_every_answer_and_exits_0():
    result = subprocess.run([sys.executable, str(TOUR)], capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "58 of 58 responses are as expected." in result.stdout
    assert result.stdout.count("✔") == 58


def test_the_lines_for_curl_do_what_they_say():
    assert shutil.which("curl"), "the tests need curl, as the lines that the tour prints do"
    # A shell starts a background process with SIGINT ignored. The tour must end nevertheless.
    command = ["env", "--ignore-signal=INT", sys.executable, str(TOUR), "--serve"]
    tour = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1)
    try:
        assert tour.stdout is not None
        lines = []
        for line in tour.stdout:
            if line.startswith(("TOKEN=", "curl ")):
                lines.append(line.rstrip())
            if len(lines) == 9:
                break
        script = "\n".join(lines)
        answers = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=True).stdout
    finally:
        tour.send_signal(signal.SIGINT)
        tour.communicate(timeout=30)
    assert tour.returncode == 0
    statuses = [int(line.split()[1]) for line in answers.splitlines() if line.startswith("HTTP/1.1 ")]
    assert statuses == [200, 401, 401, 200] * 2


def tour_module():
    specification = importlib.util.spec_from_file_location("tour_world", TOUR / "world.py")
    assert specification
    assert specification.loader
    module = sys.modules["tour_world"] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("status", "challenge", "right"),
    [
        (401, 'Bearer realm="protected", error="invalid_token"', True),
        (200, "", False),
        (403, 'Bearer realm="protected", error="invalid_token"', False),
        (401, 'Bearer realm="protected", error="insufficient_scope"', False),
        (401, 'Bearer realm="protected"', False),
        (401, "", False),
        (500, "", False),
    ],
)
def test_the_tour_takes_no_other_answer_for_the_right_one(status, challenge, right, capsys):
    tour = tour_module()
    step = tour.Step("a stolen token", 401, "invalid_token", None, "billing")
    assert tour.show(step, tour.Response(status, challenge)) is right
    assert ("✔" if right else "expected 401") in capsys.readouterr().out


def test_a_server_that_does_not_start_ends_the_tour_with_its_log():
    environment = {**os.environ, "PYTHONPATH": "/nonexistent", "GUNICORN_CMD_ARGS": "--no-such-option"}
    result = subprocess.run(
        [sys.executable, str(TOUR)], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert result.returncode == 1
    assert "did not start" in result.stderr
    assert "no-such-option" in result.stderr
