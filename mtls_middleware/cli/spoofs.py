"""Lists the requests with which a client may forge a certificate header that only a proxy should send.

This module performs no I/O and reads no clock.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

# The name and value of one field of a request, exactly as they are sent.
Field = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Spoof:
    """One request with forged fields.

    Attributes:
        header: the proxy or standard whose header is forged, for the report.
        form: the spelling of the fields, for the report.
        fields: the forged fields, with their names as they are sent.
        trailers: whether the fields are sent as trailer fields after a chunked body, instead of as header fields.
        joiner: the characters between the name and the value of each field.
    """

    header: str
    form: str
    fields: tuple[Field, ...]
    trailers: bool = False
    joiner: str = ": "


def claims(certificate: x509.Certificate) -> dict[str, tuple[Field, ...]]:
    """Return a mapping of proxy or cloud to the fields that it would send after it had verified `certificate`."""
    der = certificate.public_bytes(Encoding.DER)
    pem = certificate.public_bytes(Encoding.PEM).decode("ascii")
    b64, escaped = base64.b64encode(der).decode("ascii"), quote(pem, safe="")
    digest = hashlib.sha256(der).hexdigest()
    verify, word = ("X-SSL-Client-Verify", "SUCCESS"), ("MtlsClientVerify", "SUCCESS")
    xfcc = ("X-Forwarded-Client-Cert", f'Hash={digest};Cert="{escaped}";Subject="CN=probe"')
    return {
        "nginx": (("X-SSL-Client-Cert", escaped), verify),
        "Apache": (("X-SSL-Client-Cert", pem.replace("\n", " ").strip()), verify),
        "HAProxy": (("X-SSL-Client-Cert", b64), verify),
        "ingress-nginx": (("ssl-client-cert", escaped), ("ssl-client-verify", "SUCCESS")),
        "RFC 9440": (("Client-Cert", f":{b64}:"),),
        "Envoy": (xfcc,),
        # The entries with "generated" use the header names of the configurations that proxy-config generates.
        "nginx and Apache, generated": (("MtlsClientCert", escaped), word),
        "HAProxy and Caddy, generated": (("MtlsClientCert", b64), word),
        "Envoy, generated": (xfcc, word),
        "RFC 9440, generated": (("Client-Cert", f":{b64}:"), word),
        "Traefik": (("X-Forwarded-Tls-Client-Cert", b64),),
        "AWS verify": (("X-Amzn-Mtls-Clientcert-Leaf", quote(pem, safe="+=/")),),
        "AWS passthrough": (("X-Amzn-Mtls-Clientcert", quote(pem, safe="+=/")),),
        "Google Cloud": (("X-Client-Cert-Leaf", f":{b64}:"), ("X-Client-Cert-Chain-Verified", "true")),
        "Azure": (("X-ARR-ClientCert", b64),),
        "Cloudflare": (("Cf-Client-Cert-Der-Base64", b64), ("Cf-Cert-Verified", "true")),
    }


def over_http1(certificate: x509.Certificate) -> Iterator[Spoof]:
    """Yield the forged requests over HTTP/1.1, with each header in every spelling, valid or invalid."""
    for header, fields in claims(certificate).items():
        yield Spoof(header, "exact name", fields)
        yield Spoof(header, "lower case", _renamed(fields, str.lower))
        yield Spoof(header, "upper case", _renamed(fields, str.upper))
        yield Spoof(header, "underscores", _renamed(fields, lambda name: name.replace("-", "_")))
        yield Spoof(header, "one underscore", _renamed(fields, lambda name: "_".join(name.rsplit("-", 1))))
        yield Spoof(header, "dots", _renamed(fields, lambda name: name.replace("-", ".")))
        yield Spoof(header, "twice", (*fields, *fields))
        yield Spoof(header, "space after the name", fields, joiner=" : ")
        yield Spoof(header, "tab after the name", fields, joiner="\t: ")
        yield Spoof(header, "folded line", tuple((name, f"\r\n {value}") for name, value in fields))
        yield Spoof(header, "named by Connection", (*fields, ("Connection", ", ".join(name for name, _ in fields))))
        yield Spoof(header, "trailer", fields, trailers=True)
        for name, _ in fields[1:]:
            yield Spoof(header, f"{name} removed by Connection", (("Connection", name),))


def over_http2(certificate: x509.Certificate) -> Iterator[Spoof]:
    """Yield the forged requests over HTTP/2. Some names are invalid, for example in upper case (RFC 9113 8.2.1)."""
    for header, fields in claims(certificate).items():
        lower = _renamed(fields, str.lower)
        yield Spoof(header, "exact name", lower)
        yield Spoof(header, "upper case", fields)
        yield Spoof(header, "underscores", _renamed(lower, lambda name: name.replace("-", "_")))
        yield Spoof(header, "dots", _renamed(lower, lambda name: name.replace("-", ".")))
        yield Spoof(header, "twice", (*lower, *lower))
        yield Spoof(header, "space after the name", _renamed(lower, lambda name: f"{name} "))
        yield Spoof(header, "trailer", lower, trailers=True)


def _renamed(fields: tuple[Field, ...], rename: Callable[[str], str]) -> tuple[Field, ...]:
    return tuple((rename(name), value) for name, value in fields)
