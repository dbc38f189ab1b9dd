"""Lists the proxies that have templates. Each row has the matching source, and facts about the proxy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Form = Literal["idiomatic", "rfc9440"]
Mode = Literal["required", "optional", "untrusted"]
FORMS: tuple[Form, ...] = ("idiomatic", "rfc9440")
MODES: tuple[Mode, ...] = ("required", "optional", "untrusted")

# A WSGI server can confuse a name only if it has hyphens (RFC 3875 4.1.18). These names have no hyphens, so they are
# safe with every server.
CERTIFICATE, CHAIN, VERIFY, SECRET = "MtlsClientCert", "MtlsClientCertChain", "MtlsClientVerify", "MtlsProxySecret"


@dataclass(frozen=True, slots=True)
class Proxy:
    """One row of the table of proxies.

    Attributes:
        source: a mapping of form to the name of the source class and its keyword arguments, except those about trust.
        kept: a mapping of form to the header names that the list of deletions omits, because the configuration sets or
            deletes these headers elsewhere.
        wordless: the forms in which the proxy does not send the result of the verification. The source for these forms
            gets `verified_by_proxy=True`.
        spelled_out: whether the list of deletions must contain every spelling of a name with hyphens and underscores,
            because the proxy supports no patterns.
        unix: whether the proxy can connect to an application on a unix socket.
        environment: whether the proxy reads the secret from an environment variable instead of a file.
        crl: whether the proxy can read revocation lists.
        ocsp: whether the proxy can ask an OCSP responder about client certificates.
        safe_releases: the lowest release of each branch with the fix of `advisory`, and of the older advisories that
            concern the generated configuration (docs/proxies.md).
        advisory: the security advisory that names the fixed releases.
    """

    source: Mapping[Form, tuple[str, Mapping[str, str]]]
    kept: Mapping[Form, frozenset[str]]
    safe_releases: str
    advisory: str
    wordless: frozenset[Form] = frozenset()
    spelled_out: bool = False
    unix: bool = True
    environment: bool = False
    crl: bool = True
    ocsp: bool = False


_NO_NAMES: Mapping[Form, frozenset[str]] = {"idiomatic": frozenset(), "rfc9440": frozenset()}
_OWN_HEADERS = {"certificate_header": CERTIFICATE, "verify_header": VERIFY}
_STANDARD: tuple[str, Mapping[str, str]] = ("ClientCertHeader", {"verify_header": VERIFY})
_WORD = VERIFY.lower()

PROXIES = {
    "nginx": Proxy(
        {"idiomatic": ("Nginx", _OWN_HEADERS), "rfc9440": _STANDARD},
        kept={"idiomatic": frozenset({_WORD, CERTIFICATE.lower()}), "rfc9440": frozenset({_WORD, "client-cert"})},
        safe_releases="1.30.7",
        advisory="CVE-2026-123633, https://security-tracker.debian.org/tracker/CVE-2026-123633",
        ocsp=True,
    ),
    "haproxy": Proxy(
        {"idiomatic": ("HAProxy", {**_OWN_HEADERS, "chain_header": CHAIN}), "rfc9440": _STANDARD},
        kept=_NO_NAMES,
        safe_releases="2.6.25, 2.8.20, 3.0.19, 3.2.15, 3.3.6",
        advisory="CVE-2026-33555, https://nvd.nist.gov/vuln/detail/CVE-2026-33555",
    ),
    "apache": Proxy(
        {"idiomatic": ("Apache", _OWN_HEADERS), "rfc9440": _STANDARD},
        kept=_NO_NAMES,
        safe_releases="2.4.71",
        advisory="https://httpd.apache.org/security/vulnerabilities_24.html",
        spelled_out=True,
        ocsp=True,
    ),
    "envoy": Proxy(
        {"idiomatic": ("Envoy", {"verify_header": VERIFY}), "rfc9440": _STANDARD},
        kept={
            "idiomatic": frozenset({_WORD, "x-forwarded-client-cert"}),
            "rfc9440": frozenset({_WORD, "client-cert", "client-cert-chain"}),
        },
        safe_releases="1.36.11, 1.37.7, 1.38.5, 1.39.3",
        advisory="CVE-2026-35189, https://github.com/envoyproxy/envoy/releases/tag/v1.36.11",
        environment=True,
    ),
    "traefik": Proxy(
        {"idiomatic": ("Traefik", {}), "rfc9440": _STANDARD},
        kept=_NO_NAMES,
        safe_releases="3.7.13",
        advisory="CVE-2026-88008, https://github.com/advisories/GHSA-w4v4-9rw7-5326",
        wordless=frozenset({"idiomatic"}),
        unix=False,
        crl=False,
    ),
    "caddy": Proxy(
        {"idiomatic": ("Caddy", {"certificate_header": CERTIFICATE}), "rfc9440": ("ClientCertHeader", {})},
        kept=_NO_NAMES,
        safe_releases="2.11.4",
        advisory="CVE-2026-27586, https://github.com/advisories/GHSA-hffm-g8v7-wrv7",
        wordless=frozenset(FORMS),
        environment=True,
        crl=False,
    ),
}  # fmt: skip
