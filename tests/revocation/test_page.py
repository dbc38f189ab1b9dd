"""docs/revocations.md is true: its code runs, and the access rights on it are sufficient and necessary."""

import re
from typing import Any

import pytest

from mtls_middleware.errors import Unavailable
from mtls_middleware.revocation import RedisRevocations
from tests.live.servers import ROOT
from tests.redis_server import RedisServer
from tests.revocation.lists import BILLING, KEY, SOON, includes

PAGE = (ROOT / "docs" / "revocations.md").read_text("utf-8")
RIGHTS = [line.split("|")[2].strip() for line in re.findall(r"^\| .*`\+.*$", PAGE, re.MULTILINE)]


def test_every_block_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert isinstance(names["revocations"], RedisRevocations)


def test_the_access_rights_suffice_and_none_is_superfluous(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    reads, looks, writes, waits = RIGHTS
    (reading,) = re.findall("`(.*?)`", reads)
    (looking,) = re.findall("`(.*?)`", looks)
    (writing,) = re.findall("`(.*?)`", writes)
    (waiting,) = re.findall(r"`(\+wait)`", waits)
    with redis_server.client() as admin:

        def user(rights: str, **options: Any) -> RedisRevocations:
            admin.execute_command("ACL", "SETUSER", "user", "reset", "on", ">password", f"~{KEY}", *rights.split())
            return RedisRevocations(redis_server.client(username="user", password="password"), **options)

        def write(rights: str, **options: Any) -> None:
            """With an entry that has expired, so that it is removed."""
            admin.zadd(KEY, {b"x" * 32: 5})
            user(rights, **options).revoke(token_id=rights, issuer="i", until=SOON)

        user(writing).create([{"thumbprint": BILLING.thumbprint, "until": SOON}])
        assert includes(user(reading), BILLING) is True
        assert user(looking).look() is not None
        write(writing)
        with pytest.raises(Unavailable, match="0 of 1 replicas"):
            write(f"{writing} {waiting}", replicas=1)
        with pytest.raises(Unavailable, match="not known"):
            write(writing, replicas=1)
        with pytest.raises(Unavailable):
            write(reading)
        for each in writing.split():
            with pytest.raises(Unavailable, match="not known"):
                write(" ".join({*writing.split()} - {each}))
        assert includes(user(""), BILLING) == "503"
        assert "let the user of the client read this key (ACL: ~KEY +zrange)" in caplog.text
        admin.execute_command("ACL", "DELUSER", "user")
