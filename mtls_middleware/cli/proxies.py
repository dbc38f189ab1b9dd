"""The proxies that have templates, as a table: the source that fits each, and what the templates cannot express."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Form = Literal["idiomatic", "rfc9440"]
Mode = Literal["required", "optional", "untrusted"]
FORMS: tuple[Form, ...] = ("idiomatic", "rfc9440")
MODES: tuple[Mode, ...] = ("required", "optional", "untrusted")

# No other name folds into a name without hyphens (RFC 3875 4.1.18), so any server may stand behind the proxy.
CERTIFICATE, CHAIN, VERIFY, SECRET = "MtlsClientCert", "MtlsClientCertChain", "MtlsClientVerify", "MtlsProxySecret"


@dataclass(frozen=True, slots=True)
class Proxy:
    """One row.

    Attributes:
        source: form -> the class of the source, and its keywords except those about trust.
        kept: form -> names that the list of deletions leaves out, because the configuration sets them in that place.
        wordless: forms without a verification word; the source gets `verified_by_proxy` instead.
        spelled_out: the proxy has no patterns, so the list of deletions has each spelling with dashes and underscores.
        unix: whether the proxy can reach an application on a unix socket.
        environment: whether the proxy reads the secret from its environment, and not from a file.
    """

    source: Mapping[Form, tuple[str, Mapping[str, str]]]
    kept: Mapping[Form, frozenset[str]]
    wordless: frozenset[Form] = frozenset()
    spelled_out: bool = False
    unix: bool = True
    environment: bool = False


_NOTHING: Mapping[Form, frozenset[str]] = {"idiomatic": frozenset(), "rfc9440": frozenset()}
_OURS = {"certificate_header": CERTIFICATE, "verify_header": VERIFY}
_STANDARD: tuple[str, Mapping[str, str]] = ("ClientCertHeader", {"verify_header": VERIFY})
_WORD = VERIFY.lower()

PROXIES = {
    "nginx": Proxy(
        {"idiomatic": ("Nginx", _OURS), "rfc9440": _STANDARD},
        kept={"idiomatic": frozenset({_WORD, CERTIFICATE.lower()}), "rfc9440": frozenset({_WORD, "client-cert"})},
    ),
    "haproxy": Proxy(
        {"idiomatic": ("HAProxy", {**_OURS, "chain_header": CHAIN}), "rfc9440": _STANDARD}, kept=_NOTHING
    ),
    "apache": Proxy({"idiomatic": ("Apache", _OURS), "rfc9440": _STANDARD}, kept=_NOTHING, spelled_out=True),
    "envoy": Proxy(
        {"idiomatic": ("Envoy", {"verify_header": VERIFY}), "rfc9440": _STANDARD},
        kept={
            "idiomatic": frozenset({_WORD, "x-forwarded-client-cert"}),
            "rfc9440": frozenset({_WORD, "client-cert", "client-cert-chain"}),
        },
        environment=True,
    ),
    "traefik": Proxy(
        {"idiomatic": ("Traefik", {}), "rfc9440": _STANDARD},
        kept=_NOTHING,
        wordless=frozenset({"idiomatic"}),
        unix=False,
    ),
    "caddy": Proxy(
        {"idiomatic": ("Caddy", {"certificate_header": CERTIFICATE}), "rfc9440": ("ClientCertHeader", {})},
        kept=_NOTHING,
        wordless=frozenset(FORMS),
        environment=True,
    ),
}  # fmt: skip
