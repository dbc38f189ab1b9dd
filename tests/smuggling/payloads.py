"""Every payload by its name."""

from functools import cache

from tests.smuggling import connects, downgrades, features, forms, upgrades
from tests.smuggling.payload import Payload


@cache
def payloads() -> dict[str, Payload]:
    found = [
        *upgrades.http1(), *upgrades.second(), *upgrades.http2(),
        *connects.http1(), *connects.spellings(), *connects.http2(),
        *forms.payloads(), *downgrades.payloads(), *features.payloads(),
    ]  # fmt: skip
    by_name = {each.name: each for each in found}
    assert len(by_name) == len(found)
    return by_name
