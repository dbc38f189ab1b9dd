"""The judgement of a recorded request: whose certificate may it have, and what may be in it."""

from typing import Any

import pytest

from tests.smuggling.attack import ATTACKER, INNOCENT, VICTIM, certificate
from tests.smuggling.findings import attack_of, findings

KEYS = {"caddy-secret": ("caddy", True), "caddy-address": ("caddy", False)}


def record(path: str, client: str | None, captured: tuple[str, ...] = (), *, proxied: bool = True) -> dict[str, Any]:
    found = None if client is None else {"thumbprint": certificate(client).thumbprint}
    return {
        "method": "GET", "path": path, "proxied": proxied, "reached": True, "certificate": found,
        "captured": list(captured),
    }  # fmt: skip


OUTER, INNER = "/caddy-secret/attacker/p,forge,0/outer", "/caddy-secret/attacker/p,forge,0/inner"
WITHOUT_SECRET = "/caddy-address/attacker/p,forge,0/inner"
ORDINARY = "/caddy-secret/innocent/1/x"


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        (record(OUTER, ATTACKER), []),
        (record(OUTER, None), []),
        (record(INNER, VICTIM), ["forged"]),
        (record(INNER, INNOCENT), ["inherited"]),
        (record(INNER, ATTACKER, ("secret",)), ["captured"]),
        (record(INNER, INNOCENT, ("request",)), ["inherited", "captured"]),
        (record(INNER, None, proxied=False), ["tunnelled"]),
        (record(INNER, VICTIM, proxied=False), ["forged"]),
        # Without a secret, nothing says who wrote a request that has no certificate.
        (record(WITHOUT_SECRET, None, proxied=False), []),
        (record(ORDINARY, INNOCENT), []),
        (record(ORDINARY, ATTACKER), ["crossed"]),
        (record(ORDINARY, None), ["crossed"]),
        (record("/", VICTIM), []),
    ],
)
def test_a_request_belongs_to_the_client_that_its_path_names(recorded: dict[str, Any], expected: list[str]) -> None:
    assert [each.effect for each in findings([recorded], "waitress", KEYS)] == expected


@pytest.mark.parametrize(("client", "expected"), [(None, []), (INNOCENT, ["crossed"]), (ATTACKER, ["crossed"])])
def test_a_source_that_trusts_no_proxy_gives_no_certificate(client: str | None, expected: list[str]) -> None:
    found = findings([record(ORDINARY, client)], "uWSGI", KEYS, frozenset({"caddy-secret"}))
    assert [each.effect for each in found] == expected


def test_a_finding_names_the_attack_and_the_programs() -> None:
    (finding,) = findings([record(INNER, VICTIM)], "waitress", KEYS)
    assert str(finding) == "forged: caddy -> waitress, with secret: p (forge) GET inner victim"


@pytest.mark.parametrize("path", ["/", ORDINARY, "/caddy-secret/attacker/x/y", "localhost:80"])
def test_a_path_without_an_attack_names_none(path: str) -> None:
    assert attack_of(path) == ("unknown", "unknown")
