"""Measure 3: a certificate that was never seen before: decoded, loaded, hashed."""

from collections.abc import Callable
from typing import Any

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.sources import vendors
from mtls_middleware.wsgi_request import WSGIRequest
from tests.benchmarks import by_hand, raw, stacks
from tests.benchmarks.carriers import WSGI
from tests.benchmarks.loop import Size, Subject, take_turns
from tests.benchmarks.table import Row, microseconds

GOAL = 1.5
_BY_HAND: dict[str, Callable[[str], Any]] = {"RFC 9440": by_hand.from_rfc9440, "nginx": by_hand.from_nginx}
_DIALECT = {"RFC 9440": vendors.RFC9440, "nginx": vendors.NGINX}
_FIELD = {"RFC 9440": "HTTP_CLIENT_CERT", "nginx": "HTTP_X_SSL_CLIENT_CERT"}


def rows(quick: bool) -> list[Row]:
    return [row for form in stacks.FORMS for row in _rows(form, quick)]


def _rows(form: stacks.Form, quick: bool) -> list[Row]:
    template = stacks.client()
    source, field, decode = form.source(), _FIELD[form.name], _DIALECT[form.name].leaf

    def environ(der: bytes) -> Any:
        return WSGI().carrier(stacks.headers(form, stacks.loaded(der, template.key)))

    def value(der: bytes) -> Any:
        return environ(der)[field]

    def read(text: str) -> str:
        (leaf,) = decode(text)
        return ClientCertificate.from_der(leaf).thumbprint

    def find(view: WSGIRequest) -> None:
        assert source.find(view) is not None

    serials = stacks.distinct(template)
    times = take_turns(
        {
            "by hand": Subject(_BY_HAND[form.name], stacks.drawn(serials, value)),
            "read": Subject(read, stacks.drawn(serials, value)),
            "found": Subject(find, stacks.drawn(serials, lambda der: WSGIRequest(environ(der)))),
            "raw": raw.verification(),
        },
        Size.of(quick=quick),
    )
    alone, read_in, found_in, unit = (times[name].median for name in ("by hand", "read", "found", "raw"))
    against = f"{microseconds(alone)} by hand"
    return [
        Row(
            3,
            f"new certificate, {form.name}: parse and thumbprint",
            microseconds(read_in),
            against,
            read_in / alone,
            GOAL,
            note=f"{read_in / unit:.2f} of a raw verification ({microseconds(unit)})",
        ),
        Row(
            3,
            f"new certificate, {form.name}: the source's whole work",
            microseconds(found_in),
            against,
            found_in / alone,
            None,
            note="with the proxy's address, the verification word, and what is remembered for the next request",
        ),
    ]
