"""`Source`: what a layer needs from the object that finds the client certificate of a request."""

from typing import Protocol

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.request import RequestView


class Source(Protocol):
    """Finds the client certificate of a request. The sources in `mtls_middleware.sources` implement this protocol.

    Write your own source for a server or proxy that this package does not support. docs/extending.md has an example.
    """

    @property
    def can_verify(self) -> bool:
        """Whether `find` can return a certificate with a `verification` other than `PRESENTED`."""

    @property
    def drop_headers(self) -> frozenset[str]:
        """Names of fields, in lower case and with hyphens, that the layer removes from every request."""

    @property
    def vary(self) -> str | None:
        """The names of the fields that the certificate depends on, for the response's `Vary`; `None` without fields."""

    def find(self, view: RequestView) -> ClientCertificate | None:
        """The certificate of this request; `None` if the client presented no certificate.

        Raises `MalformedCertificate` (400), or `Refused("client_certificate_refused", reason)` (403). After any other
        exception, the layer responds with 500.
        """


MEMBERS = ("can_verify", "drop_headers", "vary", "find")
