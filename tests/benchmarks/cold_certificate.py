"""Measure 3: a certificate that was never seen before: decoded, loaded, hashed.

Must never know: how often, and in which turns; that is `loop.py`'s.
"""

from collections.abc import Callable
from typing import Any

from mtls_middleware.environ import EnvironView
from tests.benchmarks import by_hand, raw, stacks
from tests.benchmarks.carriers import WSGI
from tests.benchmarks.loop import Size, Subject, take_turns
from tests.benchmarks.table import Row, microseconds

GOAL = 1.5
_BY_HAND: dict[str, Callable[[str], Any]] = {"RFC 9440": by_hand.from_rfc9440, "nginx": by_hand.from_nginx}
_FIELD = {"RFC 9440": "HTTP_CLIENT_CERT", "nginx": "HTTP_X_SSL_CLIENT_CERT"}


def rows(quick: bool) -> list[Row]:
    return [_row(form, quick) for form in stacks.FORMS]


def _row(form: stacks.Form, quick: bool) -> Row:
    template = stacks.client()
    source, field = form.source(), _FIELD[form.name]

    def environ(der: bytes) -> Any:
        return WSGI().carrier(stacks.headers(form, stacks.loaded(der, template.key)))

    def find(view: EnvironView) -> None:
        found = source.find(view)
        assert found is not None

    serials = stacks.distinct(template)
    times = take_turns(
        {
            "by hand": Subject(_BY_HAND[form.name], stacks.drawn(serials, lambda der: environ(der)[field])),
            "ours": Subject(find, stacks.drawn(serials, lambda der: EnvironView(environ(der)))),
            "raw": raw.verification(),
        },
        Size.of(quick=quick),
    )
    ours, alone, unit = (times[name].median for name in ("ours", "by hand", "raw"))
    return Row(
        3,
        f"new certificate, {form.name}",
        microseconds(ours),
        f"{microseconds(alone)} by hand",
        ours / alone,
        GOAL,
        note=f"{ours / unit:.2f} of a raw verification ({microseconds(unit)}); ours reads word and peer too",
    )
