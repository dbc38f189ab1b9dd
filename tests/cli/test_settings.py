"""`mtls-middleware doctor --server`: options are read from every place that the server reads them from."""

import os
from pathlib import Path

import pytest

from mtls_middleware import asgi, wsgi
from tests.cli.conftest import NGINX, bare, bare_asgi

WSGI = wsgi.ClientCertificateMiddleware(bare, NGINX)
ASGI = asgi.ClientCertificateMiddleware(bare_asgi, NGINX)
LARGE = "--limit-request-field_size 65536"
JOINS = "header_map = dangerous"
UNKNOWN = "cannot tell the value of --header-map"


def words(findings: list[dict[str, str]]) -> str:
    return "\n".join(each["what"] for each in findings)


@pytest.mark.parametrize(
    "command",
    [
        f"gunicorn {LARGE} -c other.py x:app",
        f"gunicorn {LARGE} -cother.py x:app",
        f"gunicorn {LARGE} -c=other.py x:app",
        f"gunicorn {LARGE} --config other.py x:app",
        f"gunicorn {LARGE} --config=other.py x:app",
        f"gunicorn {LARGE} --conf other.py x:app",
        f"gunicorn {LARGE} -c file:other.py x:app",
        f"gunicorn {LARGE} -c python:other x:app",
        f"gunicorn {LARGE} -c python:package.inner x:app",
        f"gunicorn {LARGE} x:app",
        f"python -m gunicorn {LARGE} x:app",
        f"GUNICORN_CMD_ARGS='--header-map dangerous' gunicorn {LARGE} x:app",
        f"env GUNICORN_CMD_ARGS=--header-map=dangerous gunicorn -c empty.py {LARGE} x:app",
        f"GUNICORN_CMD_ARGS='-c other.py' gunicorn {LARGE} x:app",
    ],
)
def test_gunicorns_header_map_is_found_wherever_it_stands(command, doctor, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "inner.py").write_text("header_map = 'dangerous'")
    # Whoever imported it would see the exception.
    (tmp_path / "package" / "__init__.py").write_text("raise SystemExit('executed')")
    (tmp_path / "other.py").write_text("import os\nheader_map = 'dangerous'\nraise SystemExit('executed')\n")
    (tmp_path / "empty.py").write_text("")
    if " -c" not in command and "--conf" not in command and "CMD_ARGS" not in command:
        (tmp_path / "gunicorn.conf.py").write_text("header_map: str = 'dangerous'")
    status, findings = doctor(WSGI, command)
    assert status == 1
    assert JOINS in words(findings)


def test_gunicorns_variable_is_read_from_the_environment(doctor, monkeypatch):
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--header-map dangerous")
    status, findings = doctor(WSGI, f"gunicorn {LARGE} x:app")
    assert (status, JOINS in words(findings)) == (1, True)


def test_the_stronger_place_wins_as_with_gunicorn(doctor, tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text("header_map = 'dangerous'\nforwarder_headers = ['X_SSL_CLIENT_CERT']")
    assert doctor(WSGI, f"gunicorn {LARGE} --header-map drop --forwarder-headers SCRIPT_NAME x:app") == (0, [])
    variables = "GUNICORN_CMD_ARGS='--header-map refuse --forwarder-headers SCRIPT_NAME'"
    assert doctor(WSGI, f"{variables} gunicorn {LARGE} x:app") == (0, [])
    assert doctor(WSGI, f"{variables} gunicorn {LARGE} --header-map dangerous x:app")[0] == 1


def test_forwarder_headers_is_found_as_a_list(doctor, tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text("forwarder_headers = ('SCRIPT_NAME', 'X_SSL_CLIENT_VERIFY')")
    status, findings = doctor(WSGI, f"gunicorn {LARGE} x:app")
    assert (status, "forwarder_headers" in words(findings)) == (1, True)


@pytest.mark.parametrize(
    "text",
    [
        "import os\nheader_map = os.environ.get('MAP', 'drop')",
        "header_map = 'dan' + 'gerous'",
        "if True:\n    header_map = 'dangerous'",
        "header_map = 'drop'\nif True:\n    header_map = 'dangerous'",
        "for header_map in ('drop', 'dangerous'): pass",
        "import x as header_map",
        "from x import header_map",
        "from x import *",
        "globals()['header_map'] = 'dangerous'",
        "exec('header_map = 1')",
        "with open('x') as header_map: pass",
        "header_map, other = 'dangerous', 1",
        "(header_map := 'dangerous')",
        "def f():\n    global header_map\n    header_map = 'dangerous'\nf()",
        "header_map = f'{1}'",
        "match 'dangerous':\n    case header_map: pass",
        "match ['dangerous']:\n    case [*header_map]: pass",
        "try:\n    pass\nexcept ValueError as header_map:\n    pass",
        "import sys\nsys.modules[__name__].header_map = 'dangerous'",
        "eval('1')",
        "class header_map: pass",
        "header_map = 'drop'\nheader_map += ''",
        "this: is not Python",
        "header_map = " + "(" * 300,
        "\0",
    ],
)
def test_what_a_file_computes_is_a_warning(text, doctor, tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text(text)
    status, findings = doctor(WSGI, f"gunicorn {LARGE} x:app --forwarder-headers A --proxy-protocol off -k sync")
    assert (status, UNKNOWN in words(findings)) == (0, True), findings
    assert doctor(WSGI, f"gunicorn {LARGE} --header-map drop -k sync x:app --forwarder-headers A")[0] == 0


@pytest.mark.parametrize("place", ["nowhere.py", "python:no.where", "file:", "/", "large.py", "pipe.py"])
def test_a_file_that_cannot_be_read_is_a_warning(place, doctor, tmp_path):
    os.mkfifo(tmp_path / "pipe.py")  # no program writes to it
    (tmp_path / "large.py").write_text("#" * 2_000_000)
    status, findings = doctor(WSGI, f"gunicorn {LARGE} -c {place} x:app")
    assert (status, UNKNOWN in words(findings)) == (0, True), findings


def test_a_paste_file_may_set_anything(doctor):
    status, findings = doctor(WSGI, f"gunicorn {LARGE} --paste shop.ini")
    assert (status, UNKNOWN in words(findings)) == (0, True)
    assert UNKNOWN not in words(doctor(WSGI, f"gunicorn {LARGE} --paste shop.ini --header-map drop")[1])


def test_the_last_of_two_plain_assignments_counts(doctor, tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text("header_map = 'dangerous'\nheader_map = 'drop'")
    assert doctor(WSGI, f"gunicorn {LARGE} x:app") == (0, [])


H11 = "--http mtls_middleware.servers.uvicorn_tls:H11"


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("UVICORN_HTTP=httptools uvicorn x:app --no-proxy-headers", "does not consume the body"),
        ("UVICORN_HTTP=zttp UVICORN_HTTP2=1 uvicorn x:app --no-proxy-headers", "clear text"),
        (f"UVICORN_PROXY_HEADERS=1 uvicorn x:app {H11}", "X-Forwarded-For"),
        (f"UVICORN_FORWARDED_ALLOW_IPS=* uvicorn x:app {H11}", "X-Forwarded-For"),
        (f"FORWARDED_ALLOW_IPS=10.0.0.1 uvicorn x:app {H11}", "X-Forwarded-For"),
        (f"uvicorn x:app {H11} --env-file server.env", "X-Forwarded-For"),
        (f"UVICORN_ENV_FILE=server.env uvicorn x:app {H11}", "X-Forwarded-For"),
        (f"uvicorn x:app {H11} --env-file nowhere", "cannot tell the value of --forwarded-allow-ips"),
        ("GRANIAN_HTTP=auto granian --interface asgi x:app", "clear text"),
    ],
)
def test_variables_of_other_servers_are_options(command, word, doctor, tmp_path):
    (tmp_path / "server.env").write_text("# comment\nexport FORWARDED_ALLOW_IPS='10.0.0.1'\n")
    _, findings = doctor(ASGI, command)
    assert word in words(findings)


@pytest.mark.parametrize(
    "command",
    [
        f"UVICORN_PROXY_HEADERS=false uvicorn x:app {H11}",
        f"UVICORN_FORWARDED_ALLOW_IPS= uvicorn x:app {H11}",
        f"FORWARDED_ALLOW_IPS= uvicorn x:app {H11}",
        f"FORWARDED_ALLOW_IPS= uvicorn x:app {H11} --env-file server.env",
        f"FORWARDED_ALLOW_IPS=* uvicorn x:app {H11} --no-proxy-headers",
        f"UVICORN_HTTP=httptools uvicorn x:app {H11} --no-proxy-headers",
        "UVICORN_HTTP=mtls_middleware.servers.uvicorn_tls:H11 uvicorn x:app --no-proxy-headers",
    ],
)
def test_variables_shut_a_trap_as_options_do(command, doctor, tmp_path):
    (tmp_path / "server.env").write_text("FORWARDED_ALLOW_IPS=10.0.0.1\n")
    assert doctor(ASGI, command) == (0, [])


def test_granians_variable_shuts_clear_text_http2(doctor):
    status, findings = doctor(ASGI, "GRANIAN_HTTP=1 granian --interface asgi x:app")
    assert (status, "clear text" in words(findings)) == (0, False)


@pytest.mark.parametrize("place", ["hypercorn.toml", "file:settings.py", "python:settings"])
def test_hypercorns_file_names_its_worker(place, doctor, tmp_path: Path):
    (tmp_path / "hypercorn.toml").write_text('worker_class = "trio"\n')
    (tmp_path / "settings.py").write_text("worker_class = 'trio'\n")
    status, findings = doctor(ASGI, f"python -m mtls_middleware.servers.hypercorn_tls -c {place} x:app")
    assert (status, "trio" in words(findings)) == (1, True)


@pytest.mark.parametrize(
    "command",
    ["uwsgi app.ini", "uwsgi --ini app.ini", "uwsgi --ini=app.ini", "UWSGI_BUFFER_SIZE=65535 uwsgi", "uwsgi -b 65535"],
)
def test_uwsgis_buffer_is_read_from_its_file(command, doctor, tmp_path):
    (tmp_path / "app.ini").write_text("[uwsgi]\nbuffer-size = 65535\nmodule = x:app\nenv = A=%%b\n")
    _, findings = doctor(WSGI, command)
    assert "--buffer-size" not in words(findings)
    _, findings = doctor(WSGI, "uwsgi app.yaml")
    assert "cannot tell the value of --buffer-size" in words(findings)
