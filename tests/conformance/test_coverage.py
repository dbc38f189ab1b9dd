"""Which rows of the standards and adversarial cases are shown by tests: those of the layers that exist, all of them."""

import re
from pathlib import Path

import pytest

from tests import shared

# Rows that belong to parts of the library that have yet to be built, or to nobody's code.
LATER_ROWS = {
    "A12": "see I",
    "A20": "the list of dependencies",
    "B23": "documentation: TLS 1.2 shows the certificate",
    "B24": "a recommendation, and what this half is for",
    "E5": "DPoP is not there, and a token that names it is refused: Q3",
    "E6": "rotation is the authorization server's, which stores the tokens",
    "F11": "a rule for authorization servers",
    "G12": "the query method is not there",
    "H9": "encrypted tokens are not supported",
    "I6": "we never write the field",
    "I14": "a rule for clients",
    "I17": "applies to the TLS layer",
    "M12": "shown as A8",
    "N14": "documentation: SVIDs live for hours, and so do tokens bound to them",
    "O3": "shown as G4",
    "O5": "a rule for authorization servers",
    "O6": "shown as C3",
    "O8": "TLS is the server's",
    "O9": "documentation",
    "O13": "documentation",
    "O14": "shown as C8",
    "O15": "shown as H20",
    "P12": "what the drafts did not say yet: A1",
    "P13": "what the drafts did not say yet: I9",
    "P14": "what the drafts did not say yet: B10",
    "P15": "what the drafts did not say yet: B20",
    "P16": "the same in all editions: A6",
    "P17": "the same in all editions: A3",
    "P19": "what the drafts did not say yet: B22",
}
LATER_ROWS |= dict.fromkeys(("Q2", "Q6", "Q7", "Q10", "Q11"), "DPoP is not offered; what names it is refused: Q3")


def shown(marker: str) -> set[str]:
    """The ids in the suite's markers, read from the files: whichever tests this run selects."""
    sources = (path.read_text("utf-8") for path in Path(__file__).resolve().parents[1].rglob("test_*.py"))
    markers = (ids for text in sources for ids in re.findall(rf"mark\.{marker}\(([^)]*)\)", text))
    return {each for ids in markers for each in re.findall(r'"([^"]+)"', ids)}


def ids(name: str, pattern: str) -> set[str]:
    path = shared.ROOT / "reference" / name
    return set(re.findall(pattern, path.read_text("utf-8"), re.MULTILINE)) if path.is_file() else set()


@pytest.mark.shared
def test_tests_cover_every_row_of_resource_server_sources_and_validation():
    wanted = ids("standards.md", r"^\| ([AFGHIJKMNOQ]\d+) \|")
    assert wanted
    assert wanted - LATER_ROWS.keys() - shown("standard") == set()


@pytest.mark.shared
def test_every_row_of_the_token_endpoint_and_of_names_is_shown():
    wanted = ids("standards.md", r"^\| ([BCDELP]\d+) \|")
    assert len(wanted) > 90
    assert wanted - LATER_ROWS.keys() - shown("standard") == set()


@pytest.mark.shared
def test_every_adversarial_case_of_these_layers_is_shown():
    wanted = ids("adversarial-cases.md", r"^\| (\d{3}) \|")
    assert wanted
    assert wanted - shown("case") == set()


def test_no_row_is_shown_and_excused() -> None:
    assert LATER_ROWS.keys() & shown("standard") == set()


@pytest.mark.shared
def test_no_test_names_an_id_that_does_not_exist():
    rows = ids("standards.md", r"^\| ([A-Z]\d+) \|")
    assert shown("standard") <= rows
