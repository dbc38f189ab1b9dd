"""The proxies that have templates, as a table: which source fits each, and what else their templates cannot say.

Must never know: what somebody wants of a proxy, or what its configuration looks like.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Form = Literal["idiomatic", "rfc9440"]
Mode = Literal["required", "optional", "untrusted"]
FORMS: tuple[Form, ...] = ("idiomatic", "rfc9440")
MODES: tuple[Mode, ...] = ("required", "optional", "untrusted")

_WORD = "x-ssl-client-verify"


@dataclass(frozen=True, slots=True)
class Proxy:
    """One row: what of a proxy its templates cannot say.

    Attributes:
        source: form -> the source's class and the keywords that belong to this configuration, but for trust.
        kept: form -> names that the list of deletions leaves out, because the configuration sets them in that place.
        wordless: forms without a verification word; `verified_by_proxy` stands for the one that is missing.
        spelled_out: names are deleted in each spelling with dashes and underscores, for want of anything shorter.
        unix: whether it can reach an application on a unix socket.
    """

    source: Mapping[Form, tuple[str, Mapping[str, object]]]
    kept: Mapping[Form, frozenset[str]]
    wordless: frozenset[Form] = frozenset()
    spelled_out: bool = False
    unix: bool = True


_NOTHING: Mapping[Form, frozenset[str]] = {"idiomatic": frozenset(), "rfc9440": frozenset()}
_STANDARD: tuple[str, Mapping[str, object]] = ("ClientCertHeader", {"verify_header": "X-SSL-Client-Verify"})

PROXIES = {
    "nginx": Proxy(
        {"idiomatic": ("Nginx", {}), "rfc9440": _STANDARD},
        kept={"idiomatic": frozenset({_WORD, "x-ssl-client-cert"}), "rfc9440": frozenset({_WORD, "client-cert"})},
    ),
    "haproxy": Proxy(
        {"idiomatic": ("HAProxy", {"chain_header": "X-SSL-Client-Chain"}), "rfc9440": _STANDARD}, kept=_NOTHING
    ),
    "apache": Proxy({"idiomatic": ("Apache", {}), "rfc9440": _STANDARD}, kept=_NOTHING, spelled_out=True),
    "envoy": Proxy(
        {"idiomatic": ("Envoy", {"verify_header": "X-SSL-Client-Verify"}), "rfc9440": _STANDARD},
        kept={
            "idiomatic": frozenset({_WORD, "x-forwarded-client-cert"}),
            "rfc9440": frozenset({_WORD, "client-cert", "client-cert-chain"}),
        },
    ),
    "traefik": Proxy(
        {"idiomatic": ("Traefik", {}), "rfc9440": _STANDARD},
        kept=_NOTHING,
        wordless=frozenset({"idiomatic"}),
        unix=False,
    ),
    "caddy": Proxy(
        {"idiomatic": ("Caddy", {}), "rfc9440": ("ClientCertHeader", {})}, kept=_NOTHING, wordless=frozenset(FORMS)
    ),
}  # fmt: skip
