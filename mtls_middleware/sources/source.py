"""`Source`: the interface of an object that finds the client certificate of a request."""

from typing import NamedTuple, Protocol

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.request import RequestView


class Source(Protocol):
    """Finds the client certificate of a request. The sources in `mtls_middleware.sources` implement this protocol.

    Write your own source for a server or proxy that this package does not support. docs/extending.md has an example.

    Example:
        >>> from mtls_middleware import ClientCertificate, Verification
        >>> class OurServer:
        ...     can_verify, drop_headers, vary = True, frozenset(), None
        ...
        ...     def find(self, view: RequestView) -> ClientCertificate | None:
        ...         pem = (view.tls.environ or {}).get("our.client_cert")
        ...         return None if pem is None else ClientCertificate.from_pem(pem, verification=Verification.BY_SERVER)
    """

    @property
    def can_verify(self) -> bool:
        """Whether `find` can return a certificate with a `verification` other than `PRESENTED`."""

    @property
    def drop_headers(self) -> frozenset[str]:
        """The names of the fields that the layer removes from every request, in lower case and with hyphens."""

    @property
    def vary(self) -> str | None:
        """The names of the fields that determine the certificate, for the `Vary` field; `None` if no field does."""

    def find(self, view: RequestView) -> ClientCertificate | None:
        """Return the certificate of this request, or `None` if the client presented no certificate.

        Raises `MalformedCertificate` (the response is a 400), or `Refused("client_certificate_refused", reason)` (403).
        For any other exception, the layer responds with 500.
        """


class Absence(NamedTuple):
    """The reason why a source found no certificate in a request, for the log of a rejection.

    A source may have a method `absence(view) -> Absence`. The layer calls it only if it rejects a request without a
    certificate.

    Attributes:
        evidence: what the request contains and what the source expects, without header values and secrets.
        advice: what the operator can change. The text contains no data of the request.

    Example:
        >>> absence = Absence("our server passed no certificate", "let our server request client certificates")
        >>> absence.evidence
        'our server passed no certificate'
    """

    evidence: str
    advice: str


MEMBERS = ("can_verify", "drop_headers", "vary", "find")
