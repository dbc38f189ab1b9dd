"""That each measure runs and gives rows. Nothing here looks at a figure: machines differ, and this one is shared."""

import json

import pytest

from tests.benchmarks.__main__ import available, main
from tests.benchmarks.table import Row


@pytest.mark.parametrize("measure", available())
def test_a_measure_runs_and_gives_rows_of_its_number(measure):
    rows = available()[measure](True)
    assert rows
    assert {each.measure for each in rows} == {measure}
    assert all(each.ratio is None or each.ratio == each.ratio for each in rows)


def test_the_command_prints_a_table_and_writes_json(tmp_path, capsys):
    file = tmp_path / "rows.json"
    assert main(["3", "--quick", "--json", str(file)]) == 0
    assert "new certificate" in capsys.readouterr().out
    found = json.loads(file.read_text("utf-8"))
    assert [each["measure"] for each in found["rows"]] == [3, 3, 3, 3]
    assert found["machine"]["python"]


def test_an_unknown_measure_is_an_error(capsys):
    with pytest.raises(SystemExit):
        main(["99"])
    assert "no measure 99" in capsys.readouterr().err


def test_a_goal_is_met_from_the_right_side():
    def row(ratio: float | None, goal: float | None, at_least: bool) -> Row:
        return Row(1, "what", "1 us", "2 us", ratio, goal, at_least)

    assert row(0.1, 0.1, False).met
    assert not row(0.11, 0.1, False).met
    assert row(2.0, 2.0, True).met
    assert not row(1.9, 2.0, True).met
    assert row(None, 2.0, True).met is None
    assert row(1.0, None, False).met is None
