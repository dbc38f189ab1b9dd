"""Recognizes the form of a certificate field or verification word that a source cannot read."""

from collections.abc import Callable
from typing import NamedTuple

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.sources import vendors, xfcc


class Form(NamedTuple):
    """One form in which proxies send a certificate.

    Attributes:
        name: the name of the form, for messages.
        sources: the classes of `mtls_middleware.sources` that read this form.
        read: a function that decodes a field to the leaf and the chain (DER), or raises `MalformedCertificate`.
    """

    name: str
    sources: tuple[str, ...]
    read: Callable[[str], tuple[bytes, ...]]


def _xfcc(text: str) -> tuple[bytes, ...]:
    found = xfcc.client_certificate(text, None)
    if found is None:
        raise MalformedCertificate("the header has neither Cert nor Chain")
    return (found[0], *found[1])


# The more specific forms come first.
FORMS = (
    Form("RFC 9440 Client-Cert", ("ClientCertHeader", "GoogleCloudLoadBalancer"), vendors.RFC9440.leaf),
    Form("Envoy x-forwarded-client-cert", ("Envoy",), _xfcc),
    Form(
        "PEM, as nginx, Apache and AWS send it",
        ("Nginx", "Apache", "AzureApplicationGateway", "AWSLoadBalancer"),
        vendors.AWS_PASSTHROUGH.leaf,
    ),
    Form("PEM without line breaks, as Citrix NetScaler sends it", ("CitrixNetScaler",), vendors.NETSCALER.leaf),
    Form(
        "base64 DER, as HAProxy, Caddy, Azure and Cloudflare send it",
        ("HAProxy", "Caddy", "CloudFoundry", "AzureAppService", "Cloudflare"),
        vendors.AZURE.leaf,
    ),
    Form("Traefik X-Forwarded-Tls-Client-Cert", ("Traefik",), vendors.TRAEFIK.leaf),
    Form("base64 DER in quotes or between colons", ("HAProxy",), vendors.HAPROXY.leaf),
)

# The dialects with different verification words, and the source for each dialect.
_WORDS = (
    (vendors.NGINX, "Nginx"),
    (vendors.HAPROXY, "HAProxy"),
    (vendors.AZURE_GATEWAY, "AzureApplicationGateway"),
    (vendors.GOOGLE, "GoogleCloudLoadBalancer or Cloudflare"),
)


def form_of(value: str) -> Form | None:
    """Return the form of this certificate field, or `None` if no source reads the field."""
    for form in FORMS:
        try:
            ClientCertificate.from_der(form.read(value)[0])
        except (MalformedCertificate, ImportError):  # without the extra rfc9440, some values cannot be read
            continue
        return form
    return None


def with_form(error: MalformedCertificate, value: str, source: str) -> MalformedCertificate:
    """Return the error with the form of the field, if another source than `source` reads this form."""
    form = form_of(value)
    if form is None or source in form.sources:
        return error
    return MalformedCertificate(
        *error.evidence,
        f"the field has the form of {form.name}; sources that read this form: {', '.join(form.sources)}",
        advice="use a source that reads what the proxy sends, or change what the proxy sends",
    )


def unknown_word(word: str, vendor: str) -> MalformedCertificate:
    """Return the error for a verification word that `vendor` does not send. It names the source that reads the word."""
    evidence = f"the verification word is not one that {vendor} sends"
    source = next((name for dialect, name in _WORDS if dialect.verdict(word) is not None), None)
    if source is None:
        return MalformedCertificate(evidence)
    return MalformedCertificate(
        evidence,
        f"it is a verification word that {source} reads",
        advice="use the source that reads what the proxy sends, or change what the proxy sends",
    )
