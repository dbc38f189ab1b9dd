"""Prints the outcomes of `mtls-middleware probe`: a summary and the failures, every attempt, or JSON."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

from mtls_middleware.cli.terminal import Colour, coloured, write_json
from mtls_middleware.names.invisible import escape_invisible


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one attempt, as the report shows it.

    Attributes:
        protocol: "HTTP/1.1" or "HTTP/2".
        certificate: whether the attempt used the operator's certificate.
        header: the proxy or standard whose header was forged, or the kind of attack on the connection.
        form: the variant of the attempt.
        answer: the statuses of the responses, or how the connection ended.
        got_in: whether the attempt got in, so that a client may be able to forge a certificate.
        tried: whether the attempt was made and did not time out. If `False`, `got_in` has no meaning.
    """

    protocol: str
    certificate: bool
    header: str
    form: str
    answer: str
    got_in: bool
    tried: bool = True

    @property
    def label(self) -> str:
        """The outcome as one or two words."""
        return "GOT IN" if self.got_in else "kept out" if self.tried else "unknown"


_COLOURS: dict[str, Colour] = {"GOT IN": "red", "unknown": "yellow", "kept out": "green"}


def write(outcomes: list[Outcome], attacks: Iterable[str], *, verbose: bool, as_json: bool) -> None:
    """Print the outcomes.

    Arguments:
        attacks: the kinds of attack on the connection, as in `Outcome.header`. All other attempts forge fields.
        verbose: whether to print every attempt, and not only the failures.
    """
    if as_json:
        names = [field.name for field in fields(Outcome)]
        write_json([{name: getattr(outcome, name) for name in names} for outcome in outcomes])
        return
    sys.stdout.writelines(_summary(outcomes, frozenset(attacks)))
    sys.stdout.writelines(_line(each) for each in outcomes if verbose or each.label != "kept out")


def _summary(outcomes: list[Outcome], attacks: frozenset[str]) -> Iterator[str]:
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for each in outcomes:
        kind = each.header if each.header in attacks else "forged fields"
        counts.setdefault((each.protocol, _given(each), kind), Counter())[each.label] += 1
    for (protocol, given, kind), labels in counts.items():
        shown = ", ".join(f"{count} {label}" for label, count in sorted(labels.items()))
        worst = next(label for label in _COLOURS if label in labels)
        yield f"{protocol:8}  {given:15}  {kind:20}  {coloured(shown, _COLOURS[worst])}\n"


def _line(outcome: Outcome) -> str:
    label = coloured(f"{outcome.label:8}", _COLOURS[outcome.label])
    attempt = f"{outcome.protocol:8}  {_given(outcome):15}  {outcome.header:16}  {outcome.form:42}"
    return f"{label}  {attempt}  {escape_invisible(outcome.answer)}\n"


def _given(outcome: Outcome) -> str:
    return "own certificate" if outcome.certificate else "no certificate"
