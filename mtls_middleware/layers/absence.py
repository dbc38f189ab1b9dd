"""Explains, for the log of a rejection, why a request has no client certificate."""

from collections.abc import Callable

from mtls_middleware.errors import Refused
from mtls_middleware.layers.attached import Attached
from mtls_middleware.layers.interface import LayerRequest
from mtls_middleware.sources.source import Absence, Source


def explanation(source: Source, request: LayerRequest) -> Callable[[], Absence | None]:
    """Return a function that asks the source why it found no certificate; its result is `None` if it does not know."""

    def explain() -> Absence | None:
        ask = getattr(source, "absence", None)
        found = None if ask is None else ask(request)
        return found if isinstance(found, Absence) else None

    return explain


def explained(refusal: Refused, attached: Attached) -> Refused:
    """Return the rejection of a request without a certificate, with the reason that the certificate layer knows."""
    found = None if attached.absence is None else attached.absence()
    if found is None:
        return refusal
    evidence = (*refusal.evidence, found.evidence)
    return Refused(refusal.code, *evidence, advice=found.advice, found=refusal.found, expected=refusal.expected)
