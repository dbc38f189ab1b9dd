"""Measure 1: a request whose certificate and token were seen before."""

from tests.benchmarks import raw, stacks
from tests.benchmarks.carriers import ASGI, GATEWAYS, WSGI, Application
from tests.benchmarks.loop import Size, Subject, take_turns
from tests.benchmarks.table import Row, microseconds

GOAL = 0.1


def rows(quick: bool) -> list[Row]:
    return [_row(gateway, form, quick) for gateway in GATEWAYS for form in stacks.FORMS]


def _row(gateway: WSGI | ASGI, form: stacks.Form, quick: bool) -> Row:
    size = Size.of(quick=quick)
    pairs = stacks.headers(form, stacks.client(), stacks.token())
    bare, inner = Application(), Application()
    app = stacks.full_stack(gateway.name, getattr(inner, gateway.name), form)

    def requests(number: int) -> list[object]:
        return [gateway.carrier(pairs) for _ in range(number)]

    times = take_turns(
        {
            "bare": Subject(gateway.runner(getattr(bare, gateway.name)), requests),
            "ours": Subject(gateway.runner(app), requests),
            "raw": raw.verification(),
        },
        size,
    )
    assert inner.reached == bare.reached, "requests were refused: what was timed is no warm request"
    added, unit = times["ours"].over(times["bare"]), times["raw"].median
    return Row(
        1,
        f"warm, {gateway.name.upper()}, {form.name}",
        f"{microseconds(added.median)} added",
        f"{microseconds(unit)} raw ES256 verification",
        added.median / unit,
        GOAL,
        note=f"least {microseconds(added.least)}, bare application {microseconds(times['bare'].median)}",
    )
