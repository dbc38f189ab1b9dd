"""Rules for the code: each suppression has its reason, no test is skipped, and names of tests are short sentences."""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(
    path
    for folder in ("mtls_middleware", "tests", "samples", "docs")
    for path in (ROOT / folder).rglob("*.py*")
    if path.suffix in (".py", ".pyi") and "node_modules" not in path.parts
)
SUPPRESSION = re.compile(r"#\s*(?:ruff: )?(?:noqa(?::[A-Z0-9, ]+)?|type: ignore(?:\[[^\]]*\])?|pragma: no [a-z]+)(.*)")
NAME = re.compile(r"^ *(?:async )?def test_(\w+)\(", re.MULTILINE)
SKIP = re.compile(r"pytest\.(?:skip|importorskip|xfail)\(|mark\.(?:skip|skipif|xfail)\b")


def comments(text: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def without_reason(text: str) -> list[str]:
    found = [(each, SUPPRESSION.search(each)) for each in comments(text)]
    return [each for each, match in found if match is not None and not re.search("[A-Za-z]{2}", match[1])]


def test_each_suppression_has_its_reason_on_its_line():
    assert {str(path): found for path in FILES if (found := without_reason(path.read_text("utf-8")))} == {}


@pytest.mark.parametrize(
    "comment", ["noqa: S105", "noqa", "type: ignore", "type: ignore[arg-type]", "pragma: no cover"]
)
def test_a_suppression_without_a_reason_is_found(comment):
    assert without_reason(f"x = 1  # {comment}\n") == [f"# {comment}"]
    assert without_reason(f"x = 1  # {comment} (the name of a key)\n") == []


def suite() -> list[Path]:
    return [path for path in FILES if (ROOT / "tests") in path.parents and path != Path(__file__)]


def test_no_test_is_skipped():
    assert [str(path) for path in suite() if SKIP.search(path.read_text("utf-8"))] == []


def test_the_name_of_a_test_has_less_than_70_characters():
    names = [name for path in suite() for name in NAME.findall(path.read_text("utf-8"))]
    assert [name for name in names if len(name) >= 70] == []
    assert len(names) > 2_000
