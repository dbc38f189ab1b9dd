"""One target for each parser of bytes that a client, a proxy or another server chooses."""

import base64
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from mtls_middleware import policy, sources
from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.cli import inspect_certificate
from mtls_middleware.effects.address import check_address
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import ConfigurationError, MalformedCertificate, Refused
from mtls_middleware.json_values import json_value
from mtls_middleware.jwks import parse_text
from mtls_middleware.layers.client import _pairs
from mtls_middleware.layers.paths import PathRules
from mtls_middleware.names import distinguished, spiffe
from mtls_middleware.resource_server import IntrospectedAccessTokens, bearer, jws
from mtls_middleware.resource_server.claim_names import ClaimNames
from mtls_middleware.resource_server.claims import timed_token
from mtls_middleware.resource_server.discovery import DiscoveredKeys
from mtls_middleware.sources import encoding, rfc9440, vendors, xfcc
from mtls_middleware.token_endpoint import ClientAuthenticator, ClientRequest, RegisteredClient
from mtls_middleware.token_endpoint.registered_certificates import RegisteredCertificates
from mtls_middleware.validation import TrustStore, crl, ocsp_response, spiffe_bundles
from tests.fuzz import good
from tests.gateways import MODULES, Request, send
from tests.resource_server import forge


@dataclass(frozen=True)
class Target:
    """`run` gets good input that was changed. Only the exceptions in `typed` may come out."""

    run: Callable[[bytes, Random], object]
    good: list[bytes]
    typed: tuple[type[Exception], ...]


def octets(parse: Callable[[bytes], object]) -> Callable[[bytes, Random], object]:
    return lambda data, _: parse(data)


def field(parse: Callable[[str], object]) -> Callable[[bytes, Random], object]:
    """For the value of a header field, which servers give as Latin-1."""
    return lambda data, _: parse(data.decode("latin-1"))


def text_of(parse: Callable[[str], object]) -> Callable[[bytes, Random], object]:
    """For a string of any document, such as JSON."""
    return lambda data, _: parse(data.decode("utf-8", "replace"))


def string(parse: Callable[[str], object]) -> Callable[[bytes, Random], object]:
    return lambda data, random: parse(data.decode("utf-8", random.choice(("replace", "surrogatepass", "ignore"))))


DRIVER = BlockingDriver()
TRUST: dict[str, Any] = {"trusted_proxies": ["10.0.0.0/8"]}
SOURCES: list[tuple[Any, list[str]]] = [
    (sources.Nginx(**TRUST), ["x-ssl-client-cert", "x-ssl-client-verify"]),
    (sources.HAProxy(**TRUST, chain_header="x-chain"), ["x-ssl-client-cert", "x-ssl-client-verify", "x-chain"]),
    (sources.Traefik(**TRUST, verified_by_proxy=True), ["x-forwarded-tls-client-cert"]),
    (sources.Envoy(**TRUST, verified_by_proxy=True), ["x-forwarded-client-cert"]),
    (sources.Envoy(hops=1, **TRUST, verified_by_proxy=True), ["x-forwarded-client-cert"]),
    (sources.ClientCertHeader(**TRUST, verified_by_proxy=True), ["client-cert", "client-cert-chain"]),
]
OTHER_FIELDS = ["x-forwarded-for", "x-forwarded-port", "authorization", "content-type"]
TOKENS, FORGED = good.ISSUER.access_tokens(), forge.access_tokens()
STORES: list[Any] = [
    TrustStore([good.AUTHORITY.certificate]),
    spiffe_bundles.SpiffeTrust({"acme.internal": [good.AUTHORITY.certificate], "e": [good.AUTHORITY.certificate]}),
]
RULES = policy.Subject("CN=a,O=b") | ~policy.Issuer("CN=a") & ~policy.DNSName("x") | policy.SpiffeTrustDomain("x")
RULES |= policy.UserPrincipalName("a@b") | ~policy.SubjectAttribute("OU", "a")
RULES |= policy.CertificatePolicy("1.2") & ~policy.ExtendedKeyUsage("clientAuth")
PATHS = PathRules({"/admin": policy.Subject("CN=a"), "/admin/x": policy.Subject("CN=b"), "/": policy.Subject("CN=c")})
NAMES = (
    "subject",
    "issuer",
    "serial_number",
    "not_valid_before",
    "not_valid_after",
    "is_authority",
    "spiffe_id",
    "policies",
    "extended_key_usages",
    "pem",
)
INTROSPECTED = IntrospectedAccessTokens(
    endpoint="https://as.test/introspect", client_id="a", client_secret="b", issuer="https://as.test"
)
DISCOVERED = DiscoveredKeys("https://as.test", "rfc8414", allow_http=False, tls=None)
AUTHENTICATOR = ClientAuthenticator({})


def certificate(data: bytes) -> None:
    found = ClientCertificate.from_der(data, verification=Verification.BY_SERVER)
    for name in (*NAMES, "alternative_names"):
        with contextlib.suppress(MalformedCertificate):
            getattr(found, name)
    repr(found)
    RULES.holds(found)
    "".join(inspect_certificate._lines(inspect_certificate.describe(found)))
    for store in STORES:
        with contextlib.suppress(Refused):
            DRIVER.run(store.validate(found, time.time()))


def chain(data: bytes) -> None:
    """A leaf and the certificates that a client presents beside it."""
    leaf, *others = encoding.joined_ders(base64.b64encode(data).decode())
    found = ClientCertificate.from_der(leaf, chain=tuple(others))
    for store in STORES:
        with contextlib.suppress(Refused):
            DRIVER.run(store.validate(found, time.time()))


def token(data: bytes) -> None:
    text = bearer.presented_token([f"Bearer {data.decode('latin-1')}"], "").text
    jws.unverified_issuer(text)
    for tokens in (TOKENS, FORGED):
        with contextlib.suppress(Refused):
            DRIVER.run(tokens.validate(text, time.time()))


def claims(data: bytes) -> None:
    """Any payload, well signed."""
    forge.validate(FORGED, forge.token(payload=data))


def header(data: bytes) -> None:
    forge.validate(FORGED, forge.token(header=data))


def introspection(data: bytes) -> None:
    value = json_value(data)
    if isinstance(value, dict):
        names = ClaimNames(frozenset({"a"}), scope=("scope", "scp"), client_id=("client_id", "azp"))
        timed_token(value, client_id=names.client_id_of(value), scopes=names.scopes_of(value))
        INTROSPECTED._check_response(value, time.time())


def registration(data: bytes) -> None:
    RegisteredClient.from_metadata(json_value(data))


def client(data: bytes, random: Random) -> None:
    form = _pairs(data)
    authorization = [value for _, value in form[: random.choice((0, 1, 1, 2))]]
    DRIVER.run(AUTHENTICATOR.decide(ClientRequest(form, None, authorization=authorization), time.time()))


def request(gateway: str, data: bytes, random: Random) -> None:
    """Any pieces as path, query, peer and fields of a request: no status says that the library failed."""
    pieces = [each.decode("latin-1") for each in data.split(b"\x00")]
    source, names = random.choice(SOURCES)
    fields = [
        (random.choice([*names, *names, *OTHER_FIELDS]), random.choice(pieces)) for _ in range(random.randrange(5))
    ]
    found = send(
        gateway,
        lambda module, app: module.ClientCertificateMiddleware(
            module.CertificateBoundTokenMiddleware(app, FORGED, binding="when_present"), source
        ),
        Request(
            path=random.choice(["/", random.choice(pieces)]),
            query=random.choice(["", random.choice(pieces)]),
            headers=fields,
            peer=random.choice(["10.0.0.7", random.choice(pieces), None]),
        ),
    )
    if found.status == 500:
        raise AssertionError("status 500")


def extension(data: bytes, random: Random) -> None:
    """The ASGI TLS extension, with any JSON or the octets themselves as its members."""
    try:
        value = json_value(data)
    except ValueError:
        value = random.choice([data, data.decode("latin-1")])
    members = value if isinstance(value, dict) else {"client_cert_chain": [value], "client_cert_error": value}
    view = type("View", (), {"tls": sources.TLSFacts(members), "now": time.time()})
    sources.ServerTLS().find(view)


def lambda_event(text: str) -> None:
    """Any JSON as the Lambda event, and as its request context."""
    value = json_value(text.encode("latin-1"))
    for event in (value, {"requestContext": value}, {"requestContext": {"domainName": "a.example", "identity": value}}):
        with contextlib.suppress(Refused):
            view = type("View", (), {"tls": sources.TLSFacts(lambda_event=event), "now": time.time()})
            sources.AWSAPIGateway().find(view)


def ocsp_status(data: bytes) -> object:
    """The response of a responder that may delegate."""
    required = ocsp_response.Requirements(check_responder=True)
    return ocsp_response.verify(data, good.OCSP_REQUEST, good.AUTHORITY.certificate, time.time(), required)


TARGETS: dict[str, Target] = {
    "XFCC": Target(
        lambda data, random: xfcc.client_certificate(data.decode("latin-1"), random.choice((None, 0, 1))),
        good.XFCC,
        (Refused,),
    ),
    "Client-Cert": Target(field(rfc9440.client_cert), [good.FIELD, good.FIELD + b';a=1;b="x"'], (Refused,)),
    "Client-Cert-Chain": Target(
        field(rfc9440.client_cert_chain), [good.FIELD + b", " + good.FIELD + b";q"], (Refused,)
    ),
    "PEM": Target(field(encoding.pem_ders), [good.PEM, good.PEM * 3], (Refused,)),
    "joined DER in base64": Target(field(encoding.joined_ders), [base64.b64encode(good.DER * 3)], (Refused,)),
    "concatenated DER": Target(
        lambda data, _: encoding.joined_ders(base64.b64encode(data).decode()), [good.DER * 3], (Refused,)
    ),
    "Traefik": Target(field(vendors._traefik), [good.BASE64 + b"," + good.BASE64], (Refused,)),
    "HAProxy": Target(
        field(vendors._haproxy), [good.BASE64, b'"' + good.BASE64 + b'"', good.PEM.replace(b"\n", b"")], (Refused,)
    ),
    "Caddy": Target(field(vendors._caddy), [good.BASE64, b":" + good.BASE64 + b":"], (Refused,)),
    "Lambda event": Target(
        field(lambda_event), [good.dumped({"clientCert": {"clientCertPem": good.LEAF.pem}})], (Refused, ValueError)
    ),
    "TLS extension": Target(extension, [good.dumped({"client_cert_chain": [good.LEAF.pem]}), good.DER], (Refused,)),
    "certificate": Target(octets(certificate), [good.DER, good.WORKLOAD.der], (Refused,)),
    "chain": Target(octets(chain), good.CHAINS, (Refused,)),
    "inspect": Target(
        octets(inspect_certificate.read),
        [good.DER, good.LEAF.pem.encode(), good.PEM, *good.XFCC],
        (ConfigurationError,),
    ),
    "DN": Target(
        string(distinguished.parse_expected),
        ["CN=a\\,b+OU=\u4e2d,O=Acme,DC=\u00e9".encode(), b"1.2.3=#0c0161,CN=\\20a\\20"],
        (ValueError,),
    ),
    "address": Target(
        text_of(lambda text: check_address("jwks_uri", text, allow_http=True)),
        [b"https://as.test:8443/jwks?a=b", b"http://[::1]:80/", b"https://a[::1].test/"],
        (ConfigurationError,),
    ),
    "SPIFFE ID": Target(string(spiffe.check), [b"spiffe://acme.internal/billing/x"], (ValueError,)),
    "SPIFFE bundle": Target(octets(spiffe_bundles.read_jwks), [good.BUNDLE], (ValueError,)),
    "JWK Set": Target(octets(parse_text), [good.JWKS], (ValueError,)),
    "client's JWK Set": Target(
        octets(partial(RegisteredCertificates.parse_text, "a client")),
        [good.CERTIFICATE_JWKS],
        (ValueError,),
    ),
    "CRL": Target(
        octets(crl.parse),
        [good.crl(), b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(good.crl()) + b"-----END X509 CRL-----\n"],
        (ValueError,),
    ),
    "OCSP response": Target(octets(ocsp_status), good.OCSP, (ocsp_response.UnusableOCSPResponse,)),
    "JSON": Target(octets(json_value), [b'{"a":[1,{"b":"\\u00e9"}],"c":null,"d":1e5}'], (ValueError,)),
    "metadata": Target(octets(DISCOVERED._read), [good.METADATA], (ValueError,)),
    "introspection response": Target(octets(introspection), [good.INTROSPECTION], (Refused, ValueError)),
    "token": Target(octets(token), [good.TOKEN, good.OTHER_TOKEN], (Refused,)),
    "claims": Target(octets(claims), [forge.with_member('"a": [1]').encode(), good.dumped(forge.claims())], (Refused,)),
    "JWS header": Target(
        octets(header),
        [good.dumped(forge.HEADER), b'{"alg":"ES256","typ":"at+jwt","kid":"forge","crit":[]}'],
        (Refused,),
    ),
    "Authorization": Target(
        field(lambda text: bearer.presented_token([text], f"a=1&{text[:100]}")),
        [b"Bearer abc.def.ghi==", b"basic x, bearer y"],
        (Refused,),
    ),
    "query": Target(
        field(lambda text: bearer.presented_token(["Bearer x"], text)),
        [b"a=b&access_toke=1", b"%61ccess=1"],
        (Refused,),
    ),
    "form": Target(octets(_pairs), [b"client_id=a&grant_type=client_credentials&x=%C3%A9", b"a&b&c=;d"], (Refused,)),
    "client": Target(client, [b"x=Basic+YTpi&client_id=a", b"x=Basic%20YTpi"], (Refused,)),
    "client's registration": Target(octets(registration), good.REGISTRATIONS, (ValueError,)),
    "path": Target(field(PATHS.of), [b"/admin/x/y", b"/adminx", b"/"], (Refused,)),
    **{f"{gateway} request": Target(partial(request, gateway), [b"\x00".join(good.FIELDS)], ()) for gateway in MODULES},
}
