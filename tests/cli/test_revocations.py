"""`mtls-middleware revocations`: what it writes holds in every process that follows, and no secret is ever said."""

import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from werkzeug.test import Client

from mtls_middleware import wsgi
from mtls_middleware.cli.main import main
from mtls_middleware.cli.revocations import REDIS_VARIABLE
from mtls_middleware.revocation import RedisRevocations, RevocableTokens
from mtls_middleware.revocation.writer import RevocationListWriter
from mtls_middleware.sources import Nginx
from mtls_middleware.testing import TESTING_ENVIRON, IssuedCertificate, TokenIssuer
from tests.key_server import until
from tests.live.servers import ROOT
from tests.redis_server import RedisServer
from tests.revocation.lists import AUTHORITY, BILLING, KEY, following, includes

Run = Callable[..., tuple[int, str, str]]

LATER = ["--until", str(int(time.time()) + 3600)]
PROXY = {**TESTING_ENVIRON, "REMOTE_ADDR": "10.0.0.1"}


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    with RedisServer() as found:
        yield found


@pytest.fixture
def server(shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    with shared_redis.client() as client:
        client.flushall()
    monkeypatch.setenv(REDIS_VARIABLE, address(shared_redis))
    return shared_redis


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        """Status, standard output, standard error; in this process."""
        try:
            status = main(["revocations", *arguments])
        except SystemExit as left:
            status = int(str(left.code))
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def address(server: RedisServer, password: str = "") -> str:
    return f"redis://{f':{password}@' if password else ''}127.0.0.1:{server.port}/0"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed command, in a process of its own, with the package of this folder."""
    program = Path(sys.executable).parent / "mtls-middleware"
    return subprocess.run(
        [str(program), "revocations", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def answer_to(app: Any, certificate: IssuedCertificate, token: str) -> int:
    headers = {**certificate.as_nginx(), "Authorization": f"Bearer {token}"}
    return Client(app).get("/", headers=headers, environ_overrides=PROXY).status_code


def application(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"reached"]


# What it does


@pytest.mark.live
def test_another_process_rejects_what_the_command_revokes(
    server: RedisServer, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    tokens = RevocableTokens(mtls_issuer.access_tokens(), following(server))
    app = wsgi.protect(application, source=Nginx(trusted_proxies=["10.0.0.1"]), tokens=tokens)
    held = [
        (mtls_client, mtls_issuer.token(certificate=mtls_client, claims={"jti": "-1"})),
        (mtls_client, mtls_issuer.token(certificate=mtls_client, claims={"jti": "2"})),
        (mtls_other_client, mtls_issuer.token(certificate=mtls_other_client, claims={"jti": "3"})),
    ]

    def statuses() -> list[int]:
        return [answer_to(app, *each) for each in held]

    assert statuses() == [503, 503, 503]
    made = command("create")
    assert (made.returncode, made.stdout) == (0, "revoked  0\n")
    until(lambda: statuses() == [200, 200, 200])
    done = command("revoke", "--token-id=-1", "--issuer", mtls_issuer.issuer, *LATER)
    assert (done.returncode, done.stdout, done.stderr) == (0, "revoked  1\n", "")
    until(lambda: statuses() == [401, 200, 200])
    assert command("revoke", f"--thumbprint={mtls_client.thumbprint}", *LATER).returncode == 0
    until(lambda: statuses() == [401, 401, 200])


def test_many_are_revoked_at_once_and_shown_by_number_alone(server: RedisServer, run: Run) -> None:
    others = [AUTHORITY.issue() for _ in range(2)]
    run("create")
    named = [f"--thumbprint={each.thumbprint}" for each in (BILLING, *others)]
    ids = ["--token-id", "a", "--token-id", "b", "--issuer", "https://as.test"]
    assert run("revoke", *named, *ids, *LATER, "--json") == (0, '{"revoked": 5}\n', "")
    revocations = following(server)
    assert [includes(revocations, each) for each in (BILLING, *others)] == [True] * 3
    run("revoke", named[0], *LATER)
    assert run("show") == (0, "entries  5\nchanges  5\n", "")  # the list had the last one already
    assert json.loads(run("show", "--json")[1]) == {"entries": 5, "changes": 5}


def test_a_list_is_made_once_and_never_by_revoking(server: RedisServer, run: Run) -> None:
    billing = f"--thumbprint={BILLING.thumbprint}"
    for action in (["revoke", billing, *LATER], ["show"]):
        status, out, err = run(*action)
        assert (status, out) == (1, "")
        assert "create" in err
    assert run("create")[0] == 0
    run("revoke", billing, *LATER)
    status, out, err = run("create", "--json")
    assert (status, out) == (1, "")
    assert "a list already exists" in err
    assert run("show")[1] == "entries  1\nchanges  1\n"


def test_a_list_is_made_with_what_a_file_says(server: RedisServer, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "revoked.jsonl"
    certificate = {"thumbprint": BILLING.thumbprint, "until": BILLING.client_certificate().not_valid_after.isoformat()}
    token = {"token_id": "1", "issuer": "https://as.test", "until": time.time() + 3600.5}
    path.write_text(f"{json.dumps(certificate)}\n{json.dumps(token)}\n")
    assert run("create", "--revoked", str(path)) == (0, "revoked  2\n", "")
    assert includes(following(server), BILLING) is True
    assert run("show")[1].startswith("entries  2\n")


def test_a_list_whose_making_was_cut_off_is_finished(server: RedisServer, run: Run) -> None:
    with server.client() as client:
        RevocationListWriter(client, KEY, 0).write("create", [(bytes(32), int(time.time()) + 100)])
    assert run("show")[0] == 1
    assert run("create")[0] == 0
    assert run("show")[1].startswith("entries  1\n")


def test_what_is_over_is_not_counted(server: RedisServer, run: Run) -> None:
    run("create")
    with server.client() as client:
        client.zadd(KEY, {"A" * 43: time.time() - 1})
    assert run("show")[1] == "entries  0\nchanges  0\n"


def test_options_stand_before_the_action_or_behind_it(
    server: RedisServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = ["--redis", address(server), "--key", "other"]
    monkeypatch.setenv(REDIS_VARIABLE, "redis://127.0.0.1:1")
    assert run(*there, "create")[0] == 0
    assert run("show", *there, "--json")[1] == run(*there, "--json", "show")[1] == '{"entries": 0, "changes": 0}\n'
    assert run("show")[0] == 1


def test_a_revocation_that_no_replica_confirms_is_not_done(server: RedisServer, run: Run) -> None:
    billing = f"--thumbprint={BILLING.thumbprint}"
    status, out, err = run("create", "--replicas", "1")
    assert (status, out) == (1, "")
    assert "0 of 1 replicas confirmed" in err
    run("create")
    for number, expected in (("1", 1), ("0", 0), ("-1", 2), ("x", 2)):
        assert run("revoke", billing, *LATER, f"--replicas={number}")[0] == expected


def test_the_key_is_that_of_the_class() -> None:
    assert inspect.signature(RedisRevocations).parameters["key"].default == KEY
    assert KEY in (ROOT / "mtls_middleware/cli/revocations.py").read_text("utf-8")


# What goes wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["revoke", *LATER], "nothing to revoke"),
        (["revoke", "--issuer", "i", *LATER], "nothing to revoke"),
        (["revoke", "--token-id", "1", *LATER], "issuer="),
        (["revoke", "--token-id=", "--issuer", "i", *LATER], "token_id="),
        (["revoke", "--thumbprint=" + "A" * 43, "--issuer", "i", *LATER], "--issuer without"),
        (["revoke", "--thumbprint=" + "A" * 43, "--thumbprint=A", *LATER], "43 characters"),
        (["revoke", "--thumbprint=" + "A" * 43, "--token-id=1", *LATER], "issuer="),
        (["revoke", "--thumbprint=" + "A" * 43], "--until"),
        (["revoke", "--thumbprint=" + "A" * 43, "--until", "2001-01-01T00:00:00Z"], "is in the past"),
        *(
            (["revoke", "--thumbprint=" + "A" * 43, "--until", each], "seconds since 1970")
            for each in ("", "soon", "2099-01-01", "2099-01-01T00:00:00", "1800000000000", "9" * 400, "inf", "nan")
        ),
        (["create", "--revoked", "no such file"], "No such file"),
        (["show", "--key", ""], "key="),
        ([], "ACTION"),
    ],
)
def test_wrong_arguments_are_reported_and_write_nothing(
    server: RedisServer, run: Run, arguments: list[str], said: str
) -> None:
    run("create")
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert said in err
    assert run("show")[1] == "entries  0\nchanges  0\n"


@pytest.mark.parametrize(
    "line",
    [
        b"", b"text", b"[]", b"\xff", b'{"thumbprint": "AAA", "until": 4105080000}', b'{"until": 4105080000}',
        b'{"thumbprint": "' + 43 * b"A" + b'"}', b'{"thumbprint": "' + 43 * b"A" + b'", "until": null}',
        b'{"thumbprint": "' + 43 * b"A" + b'", "until": true}', b'{"thumbprint": "' + 43 * b"A" + b'", "until": NaN}',
        b'{"thumbprint": "' + 43 * b"A" + b'", "until": 4105080000, "jti": "1"}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_file_with_one_bad_line_makes_no_list(server: RedisServer, run: Run, tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "revoked.jsonl"
    good = json.dumps({"thumbprint": BILLING.thumbprint, "until": 4105080000}).encode()
    path.write_bytes(good + b"\n" + line + b"\n" + good)
    status, out, _ = run("create", "--revoked", str(path))
    assert (status, out) == (2, "")
    assert run("show")[0] == 1
    with server.client() as client:
        assert client.keys() == []


@pytest.mark.parametrize("action", [["create"], ["show"], ["revoke", f"--thumbprint={BILLING.thumbprint}", *LATER]])
def test_a_redis_key_with_other_data_is_left_unchanged(server: RedisServer, run: Run, action: list[str]) -> None:
    with server.client() as client:
        client.set("text", "theirs")
        client.zadd("zset", {"theirs": 1})
        for key in ("text", "zset"):
            status, out, err = run(*action, "--key", key)
            assert (status, out) == (1, "")
            assert "theirs" not in err
        assert client.get("text") == b"theirs"
        assert client.zrange("zset", 0, -1) == [b"theirs"]


@pytest.mark.parametrize("action", [["create"], ["show"], ["revoke", f"--thumbprint={BILLING.thumbprint}", *LATER]])
def test_where_redis_is_down_or_stalled_nothing_is_said_to_be_done(
    run: Run, monkeypatch: pytest.MonkeyPatch, action: list[str]
) -> None:
    with RedisServer() as own:
        monkeypatch.setenv(REDIS_VARIABLE, address(own))
        if action[0] == "revoke":
            run("create")
        own.stop()
        assert run(*action)[:2] == (1, "")
        own.go_on()
        own.kill()
        assert run(*action)[:2] == (1, "")


# What is never said


def test_a_redis_address_with_a_password_works_and_is_not_printed(
    server: RedisServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.client() as client:
        client.config_set("requirepass", "sesame")
    try:
        for action in (["create"], ["show"], ["revoke", f"--thumbprint={BILLING.thumbprint}", *LATER]):
            for password, status in (("", 1), ("guess-it", 1), ("sesame", 0)):
                monkeypatch.setenv(REDIS_VARIABLE, address(server, password))
                found = run(*action)
                assert found[0] == status
                assert not password or password not in found[1] + found[2]
    finally:
        with redis.Redis(port=server.port, password="sesame") as client:
            client.config_set("requirepass", "")


@pytest.mark.parametrize(
    "url",
    [
        "sesame", "http://:sesame@h", "redis://:sesame#x@h", "redis://:sesame/x@h", "redis://u:sesame?x@h",
        "redis://:sesame@", "redis://h:sesame", "redis://:sesame@[h", "redis://h/0?sesame=sesame",
        "redis://h?db=sesame", "redis://h?retry=sesame", "redis://h?socket_timeout=sesame", "redis://h?protocol=sesame",
        "rediss://h?ssl_cert_reqs=sesame", "redis:///sesame", "redis://\u2100:sesame@h",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_read_is_not_quoted(run: Run, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv(REDIS_VARIABLE, url)
    for given in (["show"], ["show", "--redis", url], ["--redis", url, "show"]):
        status, out, err = run(*given)
        assert (status, out) == (2, "")
        assert "address of Redis cannot be read" in err
        assert "sesame" not in err


@pytest.mark.parametrize("url", ["redis://:sesame@h", "unix:///h?password=sesame", "redis://h?password=sesame"])
def test_a_password_in_the_arguments_is_rejected(run: Run, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.delenv(REDIS_VARIABLE, raising=False)
    for given in (["show", "--redis", url], ["--redis", url, "show"], [f"--redis={url}", "show"]):
        status, out, err = run(*given)
        assert (status, out) == (2, "")
        assert REDIS_VARIABLE in err
        assert "sesame" not in err


def test_without_an_address_none_is_made_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv(REDIS_VARIABLE, raising=False)
        else:
            monkeypatch.setenv(REDIS_VARIABLE, value)
        status, _, err = run("show")
        assert status == 2
        assert REDIS_VARIABLE in err


def test_a_missing_extra_is_named() -> None:
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'redis' else find(name, *a)\n"
        "from mtls_middleware.cli.main import main; raise SystemExit(main(['revocations', 'show']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'mtls-middleware[redis]'" in done.stderr
