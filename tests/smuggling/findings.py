"""What the application recorded, judged: each request must belong to the client that its path names.

Pure: no I/O.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.smuggling.attack import ATTACKER, INNOCENT, VICTIM, certificate

# What can go wrong, worst first.
EFFECTS = {
    "forged": "the application gets the certificate of a client that did not connect",
    "inherited": "an attacker's request gets the certificate of the innocent client",
    "captured": "an attacker's request contains the secret or the fields of the innocent client's request",
    "crossed": "the innocent client's request gets another certificate, or none",
    "exchanged": "a client gets the answer to another client's request",
    "tunnelled": "a request that the proxy did not write reaches the application, without a certificate",
}
_SENDER = re.compile(r"/(attacker|innocent)/([^/ ]+)")


@dataclass(frozen=True)
class Finding:
    """One violation, and the attack that it belongs to if the path says so."""

    effect: str
    proxy: str
    server: str
    secret: bool
    payload: str = "unknown"
    kind: str = "unknown"
    detail: str = ""

    def __str__(self) -> str:
        secret = "with secret" if self.secret else "without secret"
        return f"{self.effect}: {self.proxy} -> {self.server}, {secret}: {self.payload} ({self.kind}) {self.detail}"


def owner(record: dict[str, Any]) -> str | None:
    """The client whose certificate the application got."""
    if record["certificate"] is None:
        return None
    names = {certificate(kind).thumbprint: kind for kind in (ATTACKER, VICTIM, INNOCENT)}
    return names.get(record["certificate"]["thumbprint"], "unknown")


def effects(record: dict[str, Any], secret: bool, trusted: bool = True) -> Iterable[str]:
    """The effects that one recorded request shows. `trusted`: the source accepts what this proxy writes."""
    found = _SENDER.search(record["path"])
    if found is None:
        return
    attached = owner(record)
    if found[1] == "innocent":
        if record["reached"] and attached != (INNOCENT if trusted else None):
            yield "crossed"
        return
    if attached == INNOCENT:
        yield "inherited"
    elif attached not in (None, ATTACKER):
        yield "forged"
    if record["captured"]:
        yield "captured"
    if secret and not record["proxied"] and attached is None:
        yield "tunnelled"


def findings(
    records: Iterable[dict[str, Any]],
    server: str,
    configurations: dict[str, tuple[str, bool]],
    untrusted: frozenset[str] = frozenset(),
) -> list[Finding]:
    """The violations among the records.

    Arguments: `configurations`, first path segment -> proxy, and whether it has a secret; `untrusted`, the segments
    whose sources accept no certificate under this server.
    """
    result = []
    for record in records:
        key = record["path"].split("/")[1] if record["path"].startswith("/") else ""
        proxy, secret = configurations.get(key, ("unknown", False))
        payload, kind = attack_of(record["path"])
        for effect in effects(record, secret, key not in untrusted):
            part = record["path"].rpartition("/")[2][:40]
            detail = f"{record['method']} {part} {owner(record)} {' '.join(record['captured'])}"
            result.append(Finding(effect, proxy, server, secret, payload, kind, detail.strip()))
    return result


def sender_of(path: str) -> tuple[str, str] | None:
    """The first path segment and the sender, for example `("caddy-secret", "innocent")`."""
    found = re.match(r"/([^/]+)/(attacker|innocent)/", path)
    return (found[1], found[2]) if found else None


def attack_of(path: str) -> tuple[str, str]:
    """The names of payload and kind in an attacker's path."""
    found = _SENDER.search(path)
    parts = found[2].split(",") if found and found[1] == "attacker" else []
    return (parts[0], parts[1]) if len(parts) == 3 else ("unknown", "unknown")
