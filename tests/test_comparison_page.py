"""docs/comparison.md: its figures are those of docs/performance.md, and every row names what was looked at."""

import re
from pathlib import Path

from mtls_middleware import sources

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "comparison.md").read_text("utf-8")
PERFORMANCE = (DOCS / "performance.md").read_text("utf-8")


def rows(section: str) -> list[list[str]]:
    (text,) = [each for each in PAGE.split("\n## ") if each.startswith(section)]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_figures_are_those_of_the_page_about_performance() -> None:
    figures = rows("Figures")
    assert len(figures) == 4
    measured = [[cell.strip() for cell in line.strip("|").split("|")] for line in PERFORMANCE.splitlines()]
    pairs = {
        (row[2].removesuffix(" added"), row[3].partition(" us ")[0] + " us" if " us " in row[3] else row[3])
        for row in measured
        if len(row) == 7
    }
    assert {(ours, other) for _, ours, other in figures} <= pairs


def test_the_page_counts_the_missed_goals_and_the_sources() -> None:
    missed = sum(line.endswith("| no |") for line in PERFORMANCE.splitlines())
    assert f"- {missed} rows of that page miss our own goal" in PAGE
    others = {"AWSAPIGateway", "Absence", "HeaderSource", "Peer", "RequestView", "ServerTLS", "Source", "TLSFacts"}
    assert f"[{len(set(sources.__all__) - others)} sources]" in PAGE


def test_every_row_has_its_source() -> None:
    for row in rows("Python libraries")[1:]:
        assert re.search(r"https://pypi\.org/project/[\w.-]+/[\w.]+/", row[0]), row[0]
    for row in rows("Other languages"):
        assert "https://" in " ".join(row), row[0]
