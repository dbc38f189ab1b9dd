"""Lists proxies and clouds: their header fields, the encoding of the certificate, and the verification words.

The rows of proxies were tested with the real programs. The rows of clouds follow the vendors' documentation.
"""

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from mtls_middleware.sources import encoding, rfc9440


class Verdict(enum.Enum):
    """The meaning of a verification word."""

    NONE = "there is no certificate"
    SUCCESS = "the certificate is verified"
    FAILED = "the verification of the certificate failed"


Leaf = Callable[[str], bytes]
LeafAndChain = Callable[[str], tuple[bytes, ...]]
Chain = Callable[[str], tuple[bytes, ...]]


def _verdict_openssl(word: str) -> Verdict | None:
    """Return the meaning of a verification word of nginx or Apache, or `None` for an unknown word.

    `FAILED:reason` with a comma is an unknown word, because a server has joined two field lines with the comma.
    """
    if word in ("SUCCESS", "NONE"):
        return Verdict[word]
    if word in ("FAILED", "GENEROUS") or (word.startswith("FAILED:") and "," not in word):
        return Verdict.FAILED
    return None


def _verdict_haproxy(word: str) -> Verdict | None:
    """Return the meaning of HAProxy's `ssl_c_verify`, which is an OpenSSL verify result: 0 means success.

    HAProxy can also send the name of the result (the converter `x509_v_err_str`), quotes (the flag `%{+Q}`), and the
    words of nginx. Returns `None` for an unknown word.
    """
    word = _unquoted(word)
    if _X509_RESULT.fullmatch(word):
        return Verdict.SUCCESS if word == "X509_V_OK" else Verdict.FAILED
    if word.isascii() and word.isdecimal() and len(word) <= 5:
        return Verdict.SUCCESS if word == "0" else Verdict.FAILED
    return _verdict_openssl(word)


# The names of OpenSSL's verify results (x509_vfy.h).
_X509_RESULT = re.compile(r"X509_V_(OK|ERR_[A-Z0-9_]{1,64})")


def _unquoted(text: str) -> str:
    """Remove the double quotes that HAProxy's flag `%{+Q}` adds."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _verdict_azure_gateway(word: str) -> Verdict | None:
    """Return the meaning of Azure's `client_certificate_verification`, or `None` for an unknown word.

    `PASSTHROUGH` means that Azure has not verified the certificate.
    """
    return Verdict.FAILED if word == "PASSTHROUGH" else _verdict_openssl(word)


def _verdict_boolean(word: str) -> Verdict | None:
    """Return the meaning of `true` or `false`, which Google Cloud and Cloudflare send, or `None` for another word.

    Google Cloud and Cloudflare also send `false` if the client presented no certificate.
    """
    return {"true": Verdict.SUCCESS, "false": Verdict.FAILED}.get(word)


def _one(leaf: Leaf) -> LeafAndChain:
    return lambda text: (leaf(text),)


def _traefik(text: str) -> tuple[bytes, ...]:
    """Decode base64 DER values that are separated by commas: first the leaf, and then the chain.

    Before release 2.9.2, Traefik escapes `+`, `/` and `=` (traefik/traefik#9379).
    """
    text = encoding.percent_decoded(text) if "%" in text else text
    return tuple(encoding.base64_der(part) for part in text.split(","))


def _caddy(text: str) -> tuple[bytes, ...]:
    """Decode a base64 DER value, which may be between colons as in RFC 9440, depending on the Caddyfile."""
    return (encoding.base64_der(text[1:-1] if text.startswith(":") and text.endswith(":") else text),)


def _haproxy(text: str) -> tuple[bytes, ...]:
    """Decode a base64 DER value, which the configuration may put into quotes, between colons, or into PEM lines."""
    text = _unquoted(text)
    if text.startswith("-----BEGIN"):
        return (encoding.one_line_pem_der(text),)
    return _caddy(text)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One row of the table: how a vendor sends a client certificate in header fields.

    Attributes:
        name: the vendor's name in messages.
        certificate_header, chain_header, verify_header: the default names of the fields; `None` if the vendor has no
            such field.
        leaf: a function that decodes the certificate field to DER: the leaf, and then the chain if it is in the same
            field.
        chain: a function that decodes the chain field to DER; `None` if the vendor has no such field.
        verdict: a function that returns the meaning of a verification word, or `None` for a word that the vendor does
            not send.
        nothing: the values of the certificate field that mean "no certificate".
        false_without_certificate: whether the vendor also sends the word for "failed" if the client presented no
            certificate.
        words_without_certificate: further words that the vendor also sends if the client presented no certificate
            (HAProxy's 0).
        may_verify: whether the vendor can be configured to forward only verified certificates.
    """

    name: str
    certificate_header: str
    leaf: LeafAndChain
    verify_header: str | None = None
    chain_header: str | None = None
    chain: Chain | None = None
    verdict: Callable[[str], Verdict | None] = _verdict_openssl
    nothing: frozenset[str] = field(default=frozenset({""}))
    false_without_certificate: bool = False
    words_without_certificate: frozenset[str] = frozenset()
    may_verify: bool = True


_X_CERT, _X_VERIFY = "X-SSL-Client-Cert", "X-SSL-Client-Verify"
_HAPROXY_OK = frozenset({"0", '"0"', "X509_V_OK", '"X509_V_OK"'})
_NULL = frozenset({"", "(null)"})  # Apache writes (null) for a variable that is not set

RFC9440 = Dialect(
    "RFC 9440", "Client-Cert", _one(rfc9440.client_cert),
    chain_header="Client-Cert-Chain", chain=rfc9440.client_cert_chain, nothing=frozenset(),
)  # fmt: skip
NGINX = Dialect("nginx", _X_CERT, _one(encoding.pem_der), _X_VERIFY)
APACHE = Dialect("Apache httpd", _X_CERT, _one(encoding.pem_der), _X_VERIFY, nothing=_NULL)
HAPROXY = Dialect(
    "HAProxy", _X_CERT, _haproxy, _X_VERIFY, chain=encoding.joined_ders, verdict=_verdict_haproxy,
    nothing=frozenset({"", '""', "::"}), words_without_certificate=_HAPROXY_OK,
)  # fmt: skip
ENVOY_FORMATTER = Dialect("Envoy %DOWNSTREAM_PEER_CERT%", _X_CERT, _one(encoding.pem_der))
TRAEFIK = Dialect("Traefik", "X-Forwarded-Tls-Client-Cert", _traefik)
CADDY = Dialect("Caddy", _X_CERT, _caddy, nothing=frozenset({"", "::"}))
AWS_VERIFY = Dialect("AWS ALB, verify mode", "X-Amzn-Mtls-Clientcert-Leaf", _one(encoding.pem_der))
AWS_PASSTHROUGH = Dialect(
    "AWS ALB, passthrough mode", "X-Amzn-Mtls-Clientcert", encoding.pem_ders, may_verify=False
)  # fmt: skip
GOOGLE = Dialect(
    "Google Cloud load balancer", "X-Client-Cert-Leaf", _one(rfc9440.client_cert), "X-Client-Cert-Chain-Verified",
    chain_header="X-Client-Cert-Chain", chain=rfc9440.client_cert_chain,
    verdict=_verdict_boolean, false_without_certificate=True,
)  # fmt: skip
NETSCALER = Dialect("Citrix NetScaler", "X-Client-Cert", _one(encoding.one_line_pem_der))
CLOUD_FOUNDRY = Dialect(
    "Cloud Foundry", "X-Forwarded-Client-Cert", _one(encoding.base64_der),
    verdict=_verdict_haproxy, words_without_certificate=_HAPROXY_OK,
)  # fmt: skip
AZURE_GATEWAY = Dialect(
    "Azure Application Gateway", "X-Client-Cert", _one(encoding.pem_der), "X-Client-Verify",
    verdict=_verdict_azure_gateway, words_without_certificate=frozenset({"PASSTHROUGH"}),
)  # fmt: skip
AZURE = Dialect("Azure App Service", "X-ARR-ClientCert", _one(encoding.base64_der), may_verify=False)
CLOUDFLARE = Dialect(
    "Cloudflare", "Cf-Client-Cert-Der-Base64", _one(encoding.base64_der), "Cf-Cert-Verified",
    verdict=_verdict_boolean, false_without_certificate=True,
)  # fmt: skip

# The names of fields in which proxies send client certificates. The layer removes all of these fields from every
# request, in every spelling that a server can fold to such a name. So an application cannot trust them by mistake.
KNOWN_HEADERS = frozenset(
    """
    client-cert client-cert-chain

    mtlsclientcert mtlsclientverify mtlsclientcertchain

    x-ssl-client-cert x-ssl-client-verify x-ssl-client-chain x-ssl-client-cert-chain x-ssl-client-s-dn
    x-ssl-client-s-dn-legacy x-ssl-client-s-dn-oneline x-ssl-client-s-dn-cn x-ssl-client-i-dn x-ssl-client-i-dn-legacy
    x-ssl-client-dn x-ssl-client-cn x-ssl-client-subject x-ssl-client-subject-dn x-ssl-client-issuer
    x-ssl-client-issuer-dn x-ssl-client-serial x-ssl-client-m-serial x-ssl-client-fingerprint x-ssl-client-fp
    x-ssl-client-sha1 x-ssl-client-sha256 x-ssl-client-thumbprint x-ssl-client-v-start x-ssl-client-v-end
    x-ssl-client-notbefore x-ssl-client-notafter x-ssl-client-not-before x-ssl-client-not-after x-ssl-client-b64cert
    x-ssl-client-der x-ssl-client-raw-cert x-ssl-client-escaped-cert x-ssl-client-chain-raw x-ssl-client-uri
    x-ssl-client-dns x-ssl-client-email x-ssl-client-san x-ssl-client-san-dns0 x-ssl-client-san-uri0
    x-ssl-client-san-email0 x-ssl-client-has-cert x-ssl-client-used x-ssl-cert x-ssl-subject x-ssl-issuer x-ssl-verify
    x-ssl-issuer-dn x-ssl-user-dn x-ssl

    ssl-client-cert ssl-client-verify ssl-client-subject-dn ssl-client-issuer-dn ssl-client-s-dn ssl-client-i-dn
    ssl-client-serial ssl-client-m-serial ssl-client-fingerprint ssl-client-escaped-cert ssl-client-cert-chain
    ssl-client-cert-chain-0 ssl-client-cert-chain-1 ssl-client-cert-chain-2 ssl-client-cert-chain-3

    x-forwarded-client-cert x-forwarded-client-cert-chain x-forwarded-tls-client-cert x-forwarded-tls-client-cert-info
    x-forwarded-ssl-client-cert x-forwarded-ssl-client-verify x-forwarded-client-dn

    x-amzn-mtls-clientcert x-amzn-mtls-clientcert-leaf x-amzn-mtls-clientcert-serial-number
    x-amzn-mtls-clientcert-issuer x-amzn-mtls-clientcert-subject x-amzn-mtls-clientcert-validity

    x-client-cert x-client-cert-present x-client-cert-chain-verified x-client-cert-error x-client-cert-hash
    x-client-cert-leaf x-client-cert-chain x-client-cert-serial-number x-client-cert-spiffe x-client-cert-spiffe-id
    x-client-cert-uri-sans x-client-cert-dnsname-sans x-client-cert-valid-not-before x-client-cert-valid-not-after
    x-client-cert-issuer-dn x-client-cert-subject-dn x-client-cert-map x-client-certificate x-client-verify
    x-client-dn x-client-cn

    x-arr-clientcert x-arr-clientcertificatethumbprint

    cf-client-cert-der-base64 cf-client-cert-sha256 cf-cert-revoked cf-cert-verified cf-cert-presented
    cf-cert-issuer-dn cf-cert-subject-dn cf-cert-issuer-dn-rfc2253 cf-cert-subject-dn-rfc2253
    cf-cert-issuer-dn-legacy cf-cert-subject-dn-legacy cf-cert-serial cf-cert-issuer-serial cf-cert-fingerprint-sha1
    cf-cert-fingerprint-sha256 cf-cert-not-before cf-cert-not-after cf-cert-issuer-ski cf-cert-ski

    x-tls-client-cert x-tls-client-verify x-tls-client-subject x-tls-client-dn x-mtls-client-cert x-mtls-verified
    tls-client-cert tls-client-verify x-clientcert x-client-certificate-chain x-goog-client-cert
    """.split()  # noqa: SIM905 (a list of words is easier to read)
)
