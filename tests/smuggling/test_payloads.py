"""The payloads: every one can be written in each of its kinds, and its requests carry its name."""

import pytest

from tests.smuggling.attack import KINDS, Attack
from tests.smuggling.findings import attack_of
from tests.smuggling.payload import GROUPS, Data, Headers
from tests.smuggling.payloads import payloads

# Its path has a chunk for each octet.
CHUNKS_OF_ONE = "feature-chunks-of-one"


def octets(name: str, attack: Attack) -> bytes:
    """Everything that the payload writes, one after the other."""
    payload = payloads()[name]
    if payload.segments:
        return b"".join(payload.segments(attack))
    assert payload.frames
    frames = payload.frames(attack)
    parts = [each.octets for each in frames if isinstance(each, Data)]
    return b"\n".join(
        [*parts, *(b"%s: %s" % field for each in frames if isinstance(each, Headers) for field in each.fields)]
    )


@pytest.mark.parametrize("proxy", ["nginx", "envoy"])
@pytest.mark.parametrize("group", GROUPS)
def test_every_payload_of_a_group_carries_the_name_of_its_attack(proxy: str, group: str) -> None:
    names = [each.name for each in payloads().values() if each.group == group]
    assert names
    for name in names:
        for kind in payloads()[name].kinds:
            attack = Attack(proxy, f"{proxy}-secret", name, kind)
            # HPACK compresses the path of a request over HTTP/2.
            if kind != "forge-h2" and name != CHUNKS_OF_ONE:
                assert attack.name.encode() in octets(name, attack), name


def test_a_smuggled_path_leads_back_to_its_attack() -> None:
    for name, payload in payloads().items():
        for kind in payload.kinds:
            path = Attack("caddy", "caddy-secret", name, kind).path("inner").decode()
            assert attack_of(path) == (name, kind)


def test_each_kind_says_something_else() -> None:
    inner = {kind: Attack("caddy", "caddy-secret", "p", kind).inner for kind in KINDS}
    assert inner["forge"].endswith(b"\r\n\r\n")
    assert inner["forge-h2"].startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert inner["poison"].endswith(b"\r\nX-Open: ")
    assert b"\r\nContent-Length: 1900\r\n\r\n" in inner["capture"]
