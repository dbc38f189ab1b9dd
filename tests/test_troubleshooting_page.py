"""docs/troubleshooting.md has a heading for each code and each reason, with the advice that the package logs."""

import re
from pathlib import Path

import pytest

from mtls_middleware.responses import RESPONSES
from tests.advice import advice, log_formats, messages

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "troubleshooting.md").read_text("utf-8")
TEXT = " ".join(re.sub(r"^> ", "", PAGE, flags=re.MULTILINE).split())
CODES, OTHER = PAGE.split("\n## Other lines in the log\n")
QUOTES = [
    " ".join(re.sub(r"^> ", "", each, flags=re.MULTILINE).split())
    for each in re.findall(r"(?:^> .*\n)+", PAGE, re.MULTILINE)
]
ROWS = re.findall(r"^\| `(.*?)` \|", OTHER, re.MULTILINE)


@pytest.mark.parametrize("text", sorted(advice()))
def test_the_page_has_the_advice_that_is_logged(text: str) -> None:
    assert text in TEXT


def test_some_advice_of_each_kind_is_found() -> None:
    for start in (
        "renew the certificate",
        "see the log of Redis",
        "redirects are not",
        "... differs",
        "let the server",
    ):
        assert any(each.startswith(start) for each in advice()), start


@pytest.mark.parametrize("quote", QUOTES)
def test_the_package_logs_what_the_page_quotes(quote: str) -> None:
    assert quote in advice()


def test_every_code_has_a_heading() -> None:
    assert sorted(re.findall(r"^## (\w+)$", CODES, re.MULTILINE)) == sorted(RESPONSES)


@pytest.mark.parametrize("heading", re.findall(r"^### (.*)$", CODES, re.MULTILINE))
def test_every_heading_is_a_reason_that_the_package_logs(heading: str) -> None:
    assert any(heading.removesuffix(" ...") in each for each in messages())


@pytest.mark.parametrize("text", sorted(log_formats()))
def test_the_page_has_every_line_that_is_logged(text: str) -> None:
    pieces = [piece for piece in text.split("...") if piece.strip()]
    assert any(all(piece in row for piece in pieces) for row in ROWS) or text in TEXT


@pytest.mark.parametrize("row", ROWS)
def test_the_package_logs_the_lines_of_the_page(row: str) -> None:
    pieces = [piece.strip(" ;") for piece in row.split("...") if len(piece.strip()) > 6]
    assert pieces
    for piece in pieces:
        assert any(piece in each for each in messages() | log_formats()), piece
