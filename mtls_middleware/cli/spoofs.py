"""The ways in which a client writes a certificate header that only its proxy should write: data to send, no more.

Must never know: sockets, or what an answer means.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

# One field of a request, as its octets go over the wire: name, value.
Field = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Spoof:
    """One request to send.

    Attributes:
        header: whose header it forges.
        form: how it is written.
        fields: the forged fields, names as they are sent.
        trailers: fields behind a chunked body, in place of header fields.
        joiner: what stands between name and value.
    """

    header: str
    form: str
    fields: tuple[Field, ...]
    trailers: bool = False
    joiner: str = ": "


def claims(certificate: x509.Certificate) -> dict[str, tuple[Field, ...]]:
    """What each proxy or cloud would write for `certificate`, verified."""
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
        # The names that proxy-config chooses.
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
    """Every forgery in every form that HTTP/1.1 can be written in, allowed or not."""
    for header, fields in claims(certificate).items():
        yield Spoof(header, "exact name", fields)
        yield Spoof(header, "lower case", _renamed(fields, str.lower))
        yield Spoof(header, "upper case", _renamed(fields, str.upper))
        yield Spoof(header, "underscores", _renamed(fields, lambda name: name.replace("-", "_")))
        yield Spoof(header, "one underscore", _renamed(fields, lambda name: "_".join(name.rsplit("-", 1))))
        yield Spoof(header, "dots", _renamed(fields, lambda name: name.replace("-", ".")))
        yield Spoof(header, "twice", (*fields, *fields))
        yield Spoof(header, "blank after the name", fields, joiner=" : ")
        yield Spoof(header, "tab after the name", fields, joiner="\t: ")
        yield Spoof(header, "folded line", tuple((name, f"\r\n {value}") for name, value in fields))
        yield Spoof(header, "named by Connection", (*fields, ("Connection", ", ".join(name for name, _ in fields))))
        yield Spoof(header, "trailer", fields, trailers=True)
        for name, _ in fields[1:]:
            yield Spoof(header, f"{name} taken away by Connection", (("Connection", name),))


def over_http2(certificate: x509.Certificate) -> Iterator[Spoof]:
    """The same for HTTP/2, where names are lower case, and what is not allowed may be sent all the same."""
    for header, fields in claims(certificate).items():
        lower = _renamed(fields, str.lower)
        yield Spoof(header, "exact name", lower)
        yield Spoof(header, "upper case", fields)
        yield Spoof(header, "underscores", _renamed(lower, lambda name: name.replace("-", "_")))
        yield Spoof(header, "dots", _renamed(lower, lambda name: name.replace("-", ".")))
        yield Spoof(header, "twice", (*lower, *lower))
        yield Spoof(header, "blank after the name", _renamed(lower, lambda name: f"{name} "))
        yield Spoof(header, "trailer", lower, trailers=True)


def _renamed(fields: tuple[Field, ...], rename: Callable[[str], str]) -> tuple[Field, ...]:
    return tuple((rename(name), value) for name, value in fields)
