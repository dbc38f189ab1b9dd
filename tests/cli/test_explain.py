"""`mtls-middleware explain`: it decides as the layers do, shows each step, and shows no secret."""

import json
import os
import pty
import subprocess
import sys
import types
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import a2wsgi
import fastapi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from mtls_middleware import ConfigurationError, Refused, asgi, wsgi
from mtls_middleware.cli import recorded_request
from mtls_middleware.cli.explain import explain
from mtls_middleware.cli.main import main
from mtls_middleware.cli.wiring import layers_of
from mtls_middleware.policy import ANYONE, Subject
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import CertificateAuthority, TokenIssuer
from mtls_middleware.validation import TrustStore
from tests.gateways import both_gateways

SECRET = "a-very-secret-value"
SOURCE = Nginx(trusted_proxies=["10.0.0.0/8"], shared_secret=("MtlsProxySecret", SECRET))
CA, ISSUER = CertificateAuthority(), TokenIssuer()
BILLING = CA.issue("CN=billing,O=Acme")
OTHER = CertificateAuthority("CN=Other").issue("CN=billing,O=Acme")
EXPIRED = CA.issue("CN=billing,O=Acme", not_after=datetime.now(UTC) - timedelta(days=2))
ALLOW = {"/": Subject("CN=billing,O=Acme"), "/ops": Subject("O=Acme,CN=billing"), "/public": ANYONE}


class Applications:
    """The same layers in one gateway, around an application that must not be called."""

    def __init__(self, gateway: str) -> None:
        self.module: Any = {"wsgi": wsgi, "asgi": asgi}[gateway]
        self.rules = self.protect(source=SOURCE, allow=ALLOW, exempt=["/health"])
        self.tokens = self.protect(source=SOURCE, tokens=ISSUER.access_tokens(), scopes=["read"])
        self.store = self.protect(source=SOURCE, trust_store=TrustStore([CA.certificate]))
        self.server = self.protect(source=ServerTLS())
        self.failing = self.protect(source=SOURCE, allow=self.fails)

    def protect(self, **options: Any) -> Any:
        return self.module.protect(application if self.module is wsgi else asgi_application, **options)

    @staticmethod
    def fails(certificate: object) -> bool:
        raise RuntimeError(SECRET)


def application(environ: object, start_response: object) -> list[bytes]:
    raise SystemExit("the application was called")


async def asgi_application(scope: object, receive: object, send: object) -> None:
    raise SystemExit("the application was called")


def fields(certificate: Any, **options: Any) -> dict[str, str]:
    return dict(certificate.for_source(SOURCE, **options))


def bearer(certificate: Any, **claims: Any) -> dict[str, str]:
    options = {"scopes": ["read"], "lifetime": timedelta(days=1), **claims}  # a whole run may take over 5 minutes
    token = ISSUER.token(certificate=certificate, **options)
    return {**fields(BILLING), "Authorization": f"Bearer {token}"}


# (name, application, request, status or None, step that decides, words of its reason or its advice)
TABLE: list[tuple[str, str, dict[str, Any], int | None, str, str]] = [
    ("allowed", "rules", {"headers": fields(BILLING)}, None, "certificate layer", BILLING.thumbprint),
    ("another peer", "rules", {"headers": fields(BILLING), "peer": "127.0.0.1"}, 403, "source", "'127.0.0.1' is not"),
    ("no peer", "rules", {"headers": fields(BILLING), "peer": None}, 403, "source", "trusted_proxies="),
    ("unix", "rules", {"headers": fields(BILLING), "peer": "unix"}, 403, "source", "unix"),
    ("no fields", "rules", {}, 403, "source", "shared secret"),
    ("wrong secret", "rules", {"headers": {**fields(BILLING), "mtlsproxysecret": "x" * 19}}, 403, "source", "secret"),
    ("malformed", "rules", {"headers": {**fields(BILLING), "x-ssl-client-cert": "%%"}}, 400, "source", "percent"),
    ("two lines", "rules", {"headers": [*fields(BILLING).items()] * 2}, 403, "source", "secret"),
    ("not verified", "rules", {"headers": fields(BILLING, verified=False)}, 403, "rule", "allow="),
    ("expired", "rules", {"headers": fields(EXPIRED)}, 403, "certificate layer", "renew the certificate"),
    ("order of a name", "rules", {"headers": fields(BILLING), "path": "/ops/a?b"}, 403, "rule", "O=Acme,CN=billing"),
    ("anyone", "rules", {"path": "/public"}, None, "certificate layer", "nothing is attached"),
    ("exempt", "rules", {"path": "/health"}, None, "certificate layer: path", "exempt="),
    ("ambiguous path", "rules", {"headers": fields(BILLING), "path": "//ops"}, 403, "path", "read differently"),
    ("other CA", "store", {"headers": fields(OTHER)}, 403, "certification path", "send the intermediate CA"),
    ("right CA", "store", {"headers": fields(BILLING)}, None, "certification path", "CN=billing"),
    ("token", "tokens", {"headers": bearer(BILLING)}, None, "token layer", "bound to the client certificate"),
    ("no token", "tokens", {"headers": fields(BILLING)}, 401, "token layer", "no Authorization header"),
    ("another's token", "tokens", {"headers": bearer(OTHER)}, 401, "token layer", OTHER.thumbprint),
    ("scope", "tokens", {"headers": bearer(BILLING, scopes=["write"])}, 403, "token layer", "read"),
    ("audience", "tokens", {"headers": bearer(BILLING, claims={"aud": "https://b.example"})}, 401, "access token", "https://b.example"),
    ("no certificate", "server", {"tls": {}}, 403, "source", "certificate"),
    ("no TLS", "server", {}, 403, "source", "server"),
    ("failing rule", "failing", {"headers": fields(BILLING)}, 500, "rule", "RuntimeError"),
]  # fmt: skip


@both_gateways
@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_each_step_says_what_it_decided_and_why(gateway: str, tmp_path: Path, row: Any) -> None:
    _, name, given, status, step, words = row
    app = getattr(Applications(gateway), name)
    recorded = read({"peer": "10.0.0.7", **given}, tmp_path)
    steps, response = explain(list(layers_of(app)), recorded)
    assert (None if response is None else response.status) == status
    assert status_of(app, recorded, gateway) == status
    found = [each for each in steps if each.step == step]
    assert len(found) == 1, steps
    assert words in f"{found[0].why} {found[0].change}"
    assert SECRET not in repr(steps)


def read(given: dict[str, Any], folder: Path) -> recorded_request.RecordedRequest:
    file = folder / "request.json"
    file.write_text(json.dumps(given))
    return recorded_request.read(file)


def status_of(app: Any, recorded: recorded_request.RecordedRequest, gateway: str) -> int | None:
    """The status that the layers themselves give; `None` if they call the application."""
    statuses: list[int] = []
    try:
        if gateway == "wsgi":
            app(recorded.to_environ(), lambda status, *_: statuses.append(int(status.split()[0])))
        else:
            run(app, recorded.to_scope(), statuses)
    except SystemExit:
        return None
    return statuses[0]


def run(app: Any, scope: dict[str, Any], statuses: list[int]) -> None:
    async def send(message: dict[str, Any]) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    coroutine = app(scope, None, send)
    with pytest.raises(StopIteration):
        coroutine.send(None)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    def command(app: object, given: object, *options: str) -> tuple[int, str]:
        module = types.ModuleType("explained")
        module.app = app
        monkeypatch.setitem(sys.modules, "explained", module)
        file = tmp_path / "request.json"
        file.write_text(given if isinstance(given, str) else json.dumps(given))
        status = main(["explain", "explained:app", str(file), *options])
        out, err = capsys.readouterr()
        return status, out + err

    return command


def test_the_table_and_the_exit_status(command: Any) -> None:
    app = Applications("wsgi").rules
    status, text = command(app, {"peer": "10.0.0.7", "headers": fields(BILLING)})
    assert status == 0
    assert "The request reaches the application." in text
    status, text = command(app, {"peer": "10.0.0.7", "path": "/ops", "headers": fields(BILLING)})
    assert status == 1
    assert [line.split()[1] for line in text.splitlines() if line[:1].isdigit()] == ["source", "rule", "certificate"]
    assert "the most specific first" in text
    assert "The client gets 403" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 130


def test_json_has_the_same_steps(command: Any) -> None:
    status, text = command(Applications("asgi").rules, {"peer": "10.0.0.7"}, "--json")
    found = json.loads(text)
    assert (status, found["result"]["status"], found["result"]["reaches_application"]) == (1, 403, False)
    assert found["steps"][0].keys() == {"step", "saw", "decision", "why", "change"}


def test_a_later_time_shows_what_will_expire(command: Any) -> None:
    given = {"peer": "10.0.0.7", "headers": fields(BILLING)}
    app = Applications("asgi").rules
    assert command(app, given)[0] == 0
    later = (datetime.now(UTC) + timedelta(days=100)).date().isoformat()
    status, text = command(app, given, "--at", later)
    assert status == 1
    assert "renew the certificate" in text
    assert command(app, given, "--at", "tomorrow")[0] == 2


def test_the_certificate_of_the_connection_is_read_from_a_file(command: Any, tmp_path: Path) -> None:
    BILLING.write(tmp_path)
    for gateway in ("wsgi", "asgi"):
        app = Applications(gateway).server
        assert command(app, {"tls": {"certificate": "client.pem"}})[0] == 0
        assert command(app, {"tls": {"certificate": "client.pem", "verified": False}})[0] == 1
        assert command(app, {"tls": {"certificate": "missing.pem"}})[0] == 2
        assert command(app, {"tls": {"certificate": "request.json"}})[0] == 2


def test_a_server_that_folds_names_is_explained_if_the_environ_names_it(command: Any) -> None:
    given = {"peer": "10.0.0.7", "headers": fields(BILLING), "environ": {"SERVER_SOFTWARE": "CherryPy/18 Server"}}
    status, text = command(Applications("wsgi").rules, given)
    assert status == 1
    assert "keep header names apart" in " ".join(text.split())


@pytest.mark.parametrize(
    "given",
    [
        "", "[]", "{", '{"peer": 1}', '{"pear": "10.0.0.7"}', '{"headers": {"a": 1}}', '{"headers": [["a"]]}',
        '{"headers": {"a": "b\\r\\nc: d"}}', '{"headers": {"": "b"}}', '{"headers": {"a b": "c"}}', '{"tls": []}',
        '{"tls": {"certificate": 1}}', '{"tls": {"verified": 1}}', '{"tls": {"other": 1}}',
        '{"peer": "a", "peer": "b"}', "[" * 10_000, '"' + "x" * 1_000_001 + '"',
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_a_file_that_describes_no_request_is_an_error_with_an_example(command: Any, given: str) -> None:
    status, text = command(Applications("wsgi").rules, given)
    assert status == 2
    assert "expected" in text
    assert len(text) < 2_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
# Keys of an environ that the layers read, and one name of a field.
KEYS = [
    "PATH_INFO", "SCRIPT_NAME", "REQUEST_METHOD", "QUERY_STRING", "REMOTE_ADDR", "SERVER_SOFTWARE", "gunicorn.socket",
    "SSL_CLIENT_CERT", "HTTP_X_SSL_CLIENT_CERT", "mtls_middleware.attached", "werkzeug.proxy_fix.orig",
    "x-ssl-client-cert",
]  # fmt: skip
MEMBER = st.sampled_from(["peer", "method", "path", "root_path", "headers", "tls", "environ"])


VALUE = JSON | st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4)
LAYERS = [list(layers_of(Applications(gateway).rules)) for gateway in ("wsgi", "asgi")]
LAYERS += [
    list(layers_of(Applications(gateway).protect(source=SOURCE, root_path="/api"))) for gateway in ("wsgi", "asgi")
]


@given(given=st.dictionaries(MEMBER, VALUE, max_size=5))
def test_any_json_is_a_request_that_is_decided_or_an_error(
    given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    try:
        recorded = read(given, tmp_path_factory.getbasetemp())
    except ConfigurationError:
        return
    for placements in LAYERS:
        steps, response = explain(placements, recorded)
        assert response is None or response.status in (400, 403, 500)
        assert steps or response is not None


def test_an_application_without_layers_and_layers_in_a_mount_are_errors(command: Any) -> None:
    assert "no layer" in command(application, {})[1]
    mounted = Starlette(routes=[Mount("/api", app=Applications("asgi").rules)])
    status, text = command(mounted, {})
    assert status == 2
    assert "mounted application" in text


def test_control_characters_of_a_certificate_do_not_reach_the_terminal(command: Any) -> None:
    odd = CA.issue("CN=billing,O=Acme", uris=["urn:x:\x1b[2J"])
    text = command(Applications("wsgi").rules, {"peer": "10.0.0.7", "headers": fields(odd)})[1]
    assert "\x1b" not in text


def test_a_rejection_by_a_validator_of_ones_own_is_shown(command: Any) -> None:
    class Own:
        def validate(self, text: str, now: float) -> Any:
            raise Refused("invalid_token", "not in the ledger", advice="ask the ledger")

    app = wsgi.protect(application, source=SOURCE, tokens=Own())
    text = command(app, {"peer": "10.0.0.7", "headers": bearer(BILLING)})[1]
    assert "not in the ledger" in text
    assert "ask the ledger" in text


def test_colours_appear_only_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text("{}")
    (tmp_path / "shop.py").write_text(
        "from mtls_middleware import wsgi, sources\napp = wsgi.protect(lambda e, s: [], source=sources.ServerTLS())\n"
    )
    words = [sys.executable, "-m", "mtls_middleware", "explain", "shop:app", "request.json"]
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    for extra, has_colours in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        outer, inner = pty.openpty()
        done = subprocess.run(words, cwd=tmp_path, env={**environment, **extra}, stdout=inner, check=False)
        os.close(inner)
        assert done.returncode == 1
        assert (b"\x1b[31m" in os.read(outer, 65_536)) is has_colours
        os.close(outer)
    plain = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert b"\x1b" not in plain.stdout


class Outer:
    def __init__(self, app: object) -> None:
        self.app = app


def test_what_can_change_the_request_before_the_layers_is_not_explained_away(command: Any) -> None:
    inner = Applications("asgi").rules
    mounting = Starlette(routes=[Mount("/x", app=Applications("asgi").rules)])
    for app in (Outer(inner), a2wsgi.WSGIMiddleware(Applications("wsgi").rules), asgi.protect(mounting, source=SOURCE)):
        status, text = command(app, {})
        assert status == 2
        assert "cannot explain" in text


@pytest.mark.parametrize("value", ["Bearer SECRETTOKEN\n", ["SECRETTOKEN"]])
def test_an_invalid_header_is_reported_without_its_value(command: Any, value: Any) -> None:
    status, text = command(Applications("wsgi").rules, {"headers": {"Authorization": value}})
    assert status == 2
    assert "header 1" in text
    assert "SECRETTOKEN" not in text


def test_a_surrogate_is_an_error(command: Any) -> None:
    for member in ("path", "peer"):
        assert command(Applications("asgi").rules, {member: "/\ud800"})[0] == 2


@pytest.mark.filterwarnings("ignore:The `root_path`")  # deprecated, and still used
def test_a_fastapi_application_has_its_own_root(command: Any) -> None:
    app = fastapi.FastAPI(root_path="/api")
    app.add_middleware(asgi.ClientCertificateMiddleware, source=SOURCE, allow=ALLOW)
    given = {"peer": "10.0.0.7", "path": "/api/ops", "headers": fields(BILLING)}
    client = TestClient(BILLING.for_source(SOURCE).asgi(app), root_path="")
    for path in ("/api/ops", "/ops", "/other"):
        status, text = command(app, {**given, "path": path}, "--json")
        found = json.loads(text)["result"]
        real = client.get(path).status_code
        assert (found["status"] or 404) == real, path
        assert status == int(real != 404)


def test_a_named_pipe_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "request.json")
    with pytest.raises(ConfigurationError, match="is a named pipe; expected a file"):
        recorded_request.read(tmp_path / "request.json")
