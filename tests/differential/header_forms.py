"""How proxies and servers write a client certificate into a request: header fields by form."""

import base64
import hashlib
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

Fields = list[list[str]]
Person = dict[str, Any]

SECRET, OLD_SECRET = "the secret of the proxy", "the former secret of the proxy"
SECRET_NAME = "X-Proxy-Secret"


def _escaped(person: Person) -> str:
    return quote(person["pem"], safe="")


def _nginx(person: Person, word: str) -> Fields:
    return [["X-SSL-Client-Cert", _escaped(person)], ["X-SSL-Client-Verify", word]]


def _plain(person: Person, word: str) -> Fields:
    return [["MtlsClientCert", _escaped(person)], ["MtlsClientVerify", word]]


def _own(person: Person, word: str) -> Fields:
    return [["X-Own", _escaped(person)], ["X-Own-Verify", word]]


def _haproxy(person: Person, word: str) -> Fields:
    chain = base64.b64encode(b"".join(map(base64.b64decode, person["chain"]))).decode("ascii")
    number = {"SUCCESS": "0", "NONE": "0"}.get(word, "18" if word.startswith("FAILED") else word)
    fields = [["X-SSL-Client-Cert", person["der"]], ["X-SSL-Client-Verify", number]]
    return [*fields, ["X-SSL-Client-Chain", chain]] if chain else fields


def _rfc9440(person: Person, word: str) -> Fields:
    chain = ", ".join(f":{each}:" for each in person["chain"])
    fields = [["Client-Cert", f":{person['der']}:"]]
    return [*fields, ["Client-Cert-Chain", chain]] if chain else fields


def _xfcc(person: Person, word: str) -> Fields:
    digest = hashlib.sha256(base64.b64decode(person["der"])).hexdigest()
    chain = f';Chain="{quote("".join([person["pem"], *person["chain pem"]]), safe="")}"' if person["chain"] else ""
    return [["X-Forwarded-Client-Cert", f'Hash={digest};Cert="{_escaped(person)}"{chain}']]


def _hops(person: Person, word: str) -> Fields:
    ((name, value),) = _xfcc(person, word)
    return [[name, f"{value},Hash={'0' * 64};By=spiffe://example.test/gateway"]]


def _cloudflare(person: Person, word: str) -> Fields:
    digest = hashlib.sha256(base64.b64decode(person["der"])).hexdigest()
    verified = {"SUCCESS": "true", "NONE": "false"}.get(word, "false" if word.startswith("FAILED") else word)
    return [
        ["Cf-Client-Cert-Der-Base64", person["der"]],
        ["Cf-Client-Cert-Sha256", digest],
        ["Cf-Cert-Verified", verified],
        ["Cf-Cert-Revoked", "false"],
    ]


def _google(person: Person, word: str) -> Fields:
    chain = ", ".join(f":{each}:" for each in person["chain"])
    verified = "true" if word == "SUCCESS" else "false" if word.startswith("FAILED") else word
    fields = [["X-Client-Cert-Leaf", f":{person['der']}:"], ["X-Client-Cert-Chain-Verified", verified]]
    return [*fields, ["X-Client-Cert-Chain", chain]] if chain else fields


def _azure(person: Person, word: str) -> Fields:
    return [["X-ARR-ClientCert", person["der"]]]


def _aws(person: Person, word: str) -> Fields:
    return [["X-Amzn-Mtls-Clientcert-Leaf", _escaped(person)]]


def _aws_passthrough(person: Person, word: str) -> Fields:
    return [["X-Amzn-Mtls-Clientcert", quote("".join([person["pem"], *person["chain pem"]]), safe="")]]


def _traefik(person: Person, word: str) -> Fields:
    return [["X-Forwarded-Tls-Client-Cert", ",".join([person["der"], *person["chain"]])]]


def _caddy(person: Person, word: str) -> Fields:
    return [["X-SSL-Client-Cert", f":{person['der']}:"]]


def _nothing(person: Person, word: str) -> Fields:
    return []


FORMS: dict[str, Callable[[Person, str], Fields]] = {
    "nginx": _nginx, "plain": _plain, "own": _own, "haproxy": _haproxy, "rfc9440": _rfc9440, "xfcc": _xfcc,
    "hops": _hops, "cloudflare": _cloudflare, "google": _google, "azure": _azure, "aws": _aws,
    "aws passthrough": _aws_passthrough, "traefik": _traefik, "caddy": _caddy, "tls": _nothing,
}  # fmt: skip
WORDS = (
    "SUCCESS", "FAILED:self signed certificate", "FAILED:expired", "NONE", "", "success", "FAILED", "GENEROUS",
    "true", "false", "0", "10",
)  # fmt: skip

# By name: the form that the source reads, and whether it needs a secret.
SOURCES = {
    "nginx": ("nginx", False), "nginx secret": ("nginx", True), "nginx secrets alone": ("nginx", True),
    "nginx unix": ("nginx", False), "plain": ("plain", True), "own": ("own", False), "haproxy": ("haproxy", False),
    "rfc9440": ("rfc9440", False), "rfc9440 secret": ("rfc9440", True), "rfc9440 presented": ("rfc9440", False),
    "envoy": ("xfcc", False), "envoy secret": ("xfcc", True), "envoy hops": ("hops", False),
    "cloudflare": ("cloudflare", False), "cloudflare secret": ("cloudflare", True), "google": ("google", False),
    "azure": ("azure", False), "aws": ("aws", False), "aws passthrough": ("aws passthrough", False),
    "traefik": ("traefik", False), "caddy": ("caddy", True), "tls": ("tls", False), "tls again": ("tls", False),
    "proxy certificate": ("nginx", False), "proxy certificate secret": ("nginx", True),
    "user's source": ("nginx", False), "user's nginx": ("nginx", False), "user's tls": ("tls", False),
}  # fmt: skip
