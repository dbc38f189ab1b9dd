"""Explains, for the log of a rejection, why a request has no client certificate."""

from mtls_middleware.errors import Refused
from mtls_middleware.layers.attached import Attached
from mtls_middleware.request import RequestView
from mtls_middleware.sources.source import Absence, Source


def reason(source: Source, request: RequestView) -> Absence | None:
    """Return why the source found no certificate, or `None` if the source does not know."""
    ask = getattr(source, "absence", None)
    found = None if ask is None else ask(request)
    return found if isinstance(found, Absence) else None


def with_absence(refusal: Refused, attached: Attached) -> Refused:
    """Return the rejection of a request without a certificate, with the reason that the certificate layer knows."""
    found = None if attached.absence is None else attached.absence()
    return refusal if found is None else refusal.changed(*refusal.evidence, found.evidence, advice=found.advice)
