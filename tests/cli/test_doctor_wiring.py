"""`mtls-middleware doctor`: exempt paths, middleware outside of the layers, and what Django's runserver serves."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import flask
import pytest
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from mtls_middleware import asgi, wsgi
from mtls_middleware.cli.main import main
from mtls_middleware.policy import ANYONE, Subject
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import CertificateAuthority, TokenIssuer
from tests.cli.conftest import NGINX, Doctor, bare, bare_asgi

NGINX_BY_ADDRESS = Nginx(trusted_proxies=["10.0.0.0/8"])
TOKENS = TokenIssuer().access_tokens()
RULES: dict[str, Any] = {"/": Subject("CN=a"), "/admin": Subject("CN=ops"), "/open": ANYONE}


def findings(doctor: Doctor, app: object, server: str | None = None) -> set[tuple[str, str]]:
    _, found = doctor(app, server)
    return {(each["severity"], each["what"]) for each in found}


@pytest.mark.parametrize("module", [wsgi, asgi])
@pytest.mark.parametrize(
    ("exempt", "severity", "words"),
    [
        (["/*"], "error", "rejects no request"),
        (["/admin"], "error", "'/admin' is in exempt="),
        (["/admin/*"], "error", "'/admin' is in exempt="),
        (["/health"], None, ""),
        (["/administrator/*"], None, ""),
    ],
)
def test_exempt_paths_that_open_too_much(doctor: Doctor, module: Any, exempt: Any, severity: Any, words: str) -> None:
    app = module.protect(bare if module is wsgi else bare_asgi, source=ServerTLS(), allow=RULES, exempt=exempt)
    found = {each for each in findings(doctor, app) if "exempt" in each[1]}
    assert {each[0] for each in found} == ({severity} if severity else set())
    assert any(words in each[1] for each in found) or not found


def test_a_path_that_only_the_token_layer_exempts_is_a_warning(doctor: Doctor) -> None:
    inner = wsgi.CertificateBoundTokenMiddleware(bare, TOKENS, exempt=["/health"])
    app = wsgi.ClientCertificateMiddleware(inner, ServerTLS(), required=True)
    assert any(each[0] == "warning" and "'/health'" in each[1] for each in findings(doctor, app))
    both = wsgi.protect(bare, source=ServerTLS(), tokens=TOKENS, exempt=["/health"])
    assert findings(doctor, both) == set()


class Sessions:
    """Middleware of one's own."""

    def __init__(self, app: object) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Any: ...


class RealIPMiddleware(Sessions): ...


@pytest.mark.parametrize(
    ("wrap", "severity"),
    [(Sessions, "note"), (ProxyFix, "note"), (RealIPMiddleware, "error"), (ProxyHeadersMiddleware, "error")],
)
def test_middleware_outside_of_the_layers_is_named(doctor: Doctor, wrap: Any, severity: str) -> None:
    app = wrap(wsgi.protect(bare, source=NGINX))
    (found,) = [each for each in findings(doctor, app) if "outside of the layers" in each[1]]
    assert found[0] == severity
    assert wrap.__name__ in found[1]
    without_address = wrap(wsgi.protect(bare, source=ServerTLS()))
    assert {each[0] for each in findings(doctor, without_address)} == {"note"}


def test_starlettes_own_list_of_middleware_counts_in_its_order(doctor: Doctor) -> None:
    app = Starlette()
    app.add_middleware(GZipMiddleware)
    app.add_middleware(asgi.ClientCertificateMiddleware, source=ServerTLS())
    app.add_middleware(CORSMiddleware)
    names = " ".join(each[1] for each in findings(doctor, app))
    assert "CORSMiddleware" in names
    assert "GZip" not in names


def test_frameworks_and_what_is_inside_are_not_named(doctor: Doctor) -> None:
    app = flask.Flask("x")
    app.wsgi_app = wsgi.protect(Sessions(app.wsgi_app), source=ServerTLS())
    assert findings(doctor, app) == set()


PROJECT = {
    "dsettings.py": """
        SECRET_KEY = "for tests"
        ROOT_URLCONF = "durls"
        INSTALLED_APPS = []
        {line}
    """,
    "durls.py": "urlpatterns = []",
    "dwsgi.py": """
        import os
        os.environ["DJANGO_SETTINGS_MODULE"] = "dsettings"
        from django.core.wsgi import get_wsgi_application
        from mtls_middleware.wsgi import protect
        from mtls_middleware.sources import Nginx
        source = Nginx(shared_secret=("MtlsProxySecret", "s" * 16), certificate_header="Mcert", verify_header="Mverify")
        bare = get_wsgi_application()
        application = protect(bare, source=source)
    """,
}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "WSGI_APPLICATION is not set"),
        ("WSGI_APPLICATION = 'dwsgi.bare'", "has no layer"),
        ("WSGI_APPLICATION = 'dwsgi.missing'", "has no layer"),
        ("WSGI_APPLICATION = 'dwsgi.application'", None),
        ("WSGI_APPLICATION = 'dwsgi.application'; INSTALLED_APPS = ['daphne']", "ASGI_APPLICATION is not set"),
    ],
)
def test_what_runserver_serves_is_read_from_djangos_settings(tmp_path: Path, line: str, words: str | None) -> None:
    for name, text in PROJECT.items():
        (tmp_path / name).write_text(textwrap.dedent(text).replace("{line}", line))
    if "daphne" in line:
        (tmp_path / "daphne.py").write_text("")
    command = [sys.executable, "-m", "mtls_middleware", "doctor", "dwsgi:application"]
    command += ["--server", "python manage.py runserver"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (words or "no findings") in done.stdout, done.stderr
    assert done.returncode == (0 if words is None else 1)


PROGRAMS = {
    "literal": "import uvicorn\nuvicorn.run('x:app', http='h11', ssl_cert_reqs=2, proxy_headers=False)",
    "constants": "import ssl, uvicorn as u\nu.run('x:app', ssl_cert_reqs=ssl.CERT_REQUIRED, http='h11')",
    "a class": "from uvicorn import Config, Server\nfrom mtls_middleware.servers.uvicorn_tls import H11, WebSockets\n"
    "Server(Config('x:app', http=H11, ws=WebSockets, ssl_cert_reqs=int(1))).run()",
    "unknown": "import uvicorn\nuvicorn.run('x:app', **options)",
    "computed": "import os, uvicorn\nuvicorn.run('x:app', http=os.environ['HTTP'], ssl_cert_reqs=1)",
    "no uvicorn": "print(1)",
    "a setting": "import uvicorn\nfrom conf import settings\nuvicorn.run('x:app', http=settings.http, ssl_cert_reqs=1)",
    "bound twice": "import uvicorn\nfrom mtls_middleware.servers.uvicorn_tls import H11\nclass H11(H11): ...\n"
    "uvicorn.run('x:app', http=H11, ssl_cert_reqs=1)",
    "changed later": "import uvicorn\nc = uvicorn.Config('x:app', http='h11', ssl_cert_reqs=1)\nc.http = 'httptools'",
    "another name": "import uvicorn\nr = uvicorn.run\nr('x:app')\nif 0:\n    uvicorn.run('x:app', ssl_cert_reqs=1)",
    "starred": "import uvicorn\nuvicorn.Config(*given, http='h11', ssl_cert_reqs=1)",
}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("literal", "uvicorn itself does not hand over"),
        ("constants", "uvicorn itself does not hand over"),
        ("a class", ""),
        ("unknown", "cannot tell the value of --http"),
        ("computed", "cannot tell the value of --http"),
        ("a setting", "cannot tell the value of --http"),
        ("bound twice", "cannot tell the value of --http"),
        ("changed later", "cannot tell the value of --http"),
        ("another name", "cannot tell the value of --http"),
        ("starred", "cannot tell the value of --http"),
        ("no uvicorn", "not a known server"),
    ],
)
def test_a_program_that_calls_uvicorn_is_read(doctor: Doctor, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "run.py").write_text(PROGRAMS[name])
    found = findings(doctor, asgi.protect(bare_asgi, source=ServerTLS()), "python -u run.py")
    assert any(words in each[1] for each in found) if words else found == set()
    assert not any("does not request client certificates" in each[1] for each in found)


def test_the_defaults_of_a_program_that_calls_uvicorn(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text("import uvicorn\nif __name__ == '__main__':\n    uvicorn.run('x:app')")
    found = " ".join(each[1] for each in findings(doctor, asgi.protect(bare_asgi, source=NGINX), "python3 run.py"))
    assert "httptools" in found
    assert "X-Forwarded-For" in found


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("flask run", "without --cert has no TLS"),
        ("flask --app x run --cert server.pem --key k.pem", "requests no client certificates"),
        ("flask run --cert=adhoc", "requests no client certificates"),
        ("FLASK_RUN_CERT=server.pem flask run", "requests no client certificates"),
        ("flask run --cert mtls_middleware.testing.development.context", None),
        ("python -m flask run --cert shop.tls.context", None),
        ("python manage.py runserver", "have no TLS"),
    ],
)
def test_development_servers(doctor: Doctor, server: str, words: str | None) -> None:
    found = findings(doctor, wsgi.protect(bare, source=ServerTLS()), server)
    assert any(words in each[1] for each in found) if words else found == set()


@pytest.mark.parametrize("server", ["fastapi run shop.py", "fastapi dev", "python -m fastapi run"])
def test_the_fastapi_command_starts_uvicorn_with_its_defaults(doctor: Doctor, server: str) -> None:
    found = " ".join(each[1] for each in findings(doctor, asgi.protect(bare_asgi, source=NGINX), server))
    assert "httptools" in found
    assert "has no option for --http" in found
    with_option = findings(doctor, asgi.protect(bare_asgi, source=NGINX), f"{server} --no-proxy-headers")
    assert not any("X-Forwarded-For" in each[1] for each in with_option)


@pytest.mark.parametrize("value", ["ssl.CERT_REQUIRED", "CERT_OPTIONAL", "int(ssl.CERT_REQUIRED)", "2"])
@pytest.mark.parametrize("how", ["gunicorn -c conf.py x:app", "GUNICORN_CMD_ARGS='-c conf.py' gunicorn x:app"])
def test_a_correct_file_of_gunicorn_has_no_findings(doctor: Doctor, tmp_path: Path, value: str, how: str) -> None:
    (tmp_path / "conf.py").write_text(
        f"import multiprocessing, ssl\nfrom ssl import CERT_OPTIONAL\nworkers = multiprocessing.cpu_count()\n"
        f"ca_certs = 'ca.pem'\ncert_reqs = {value}\ndef post_fork(server, worker):\n    pass\n"
    )
    assert findings(doctor, wsgi.protect(bare, source=ServerTLS()), how) == set()


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name in ("proxy-config", "inspect", "verify", "doctor", "explain", "dev-ca", "revocations", "probe"):
        assert name in text


@pytest.mark.parametrize(
    "text",
    [
        "from conf import HM\nheader_map = HM",
        "import conf\nheader_map = conf.HM",
        "from uvicorn.workers import UvicornWorker\nworker_class = UvicornWorker",
        "worker_class = 'gunicorn.workers.gtornado.TornadoWorker'",
    ],
)
def test_what_a_file_imports_is_not_taken_for_a_safe_value(doctor: Doctor, tmp_path: Path, text: str) -> None:
    (tmp_path / "conf_g.py").write_text(text)
    app = asgi.protect(bare_asgi, source=NGINX) if "uvicorn" in text else wsgi.protect(bare, source=NGINX)
    found = findings(doctor, app, "gunicorn -c conf_g.py --limit-request-field_size 65536 x:app")
    assert any(severity in ("error", "warning") for severity, _ in found)


@pytest.mark.parametrize(
    "http",
    [
        "uvicorn.protocols.http.auto:AutoHTTPProtocol",
        "uvicorn.protocols.http:httptools_impl.HttpToolsProtocol",
        "own:Class",
    ],
)
def test_only_known_classes_of_uvicorn_are_safe(doctor: Doctor, http: str) -> None:
    found = findings(doctor, asgi.protect(bare_asgi, source=NGINX), f"uvicorn x:app --no-proxy-headers --http {http}")
    assert any("httptools" in each[1] for each in found)


def test_proxy_fix_twice_is_an_error_and_its_address_is_not_trusted(doctor: Doctor) -> None:
    layered = wsgi.protect(bare, source=NGINX_BY_ADDRESS)
    assert any(each[0] == "error" and "twice" in each[1] for each in findings(doctor, ProxyFix(ProxyFix(layered))))
    sent = {**dict(CertificateAuthority().issue().as_nginx()), "X-Forwarded-For": "10.0.0.7"}
    environ = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in sent.items()}
    statuses: list[str] = []
    for app in (layered, ProxyFix(layered), ProxyFix(ProxyFix(layered))):
        statuses.clear()
        request = {**environ, "REMOTE_ADDR": "6.6.6.6", "SERVER_SOFTWARE": "gunicorn/23.0.0", "REQUEST_METHOD": "GET"}
        app({**request, "PATH_INFO": "/"}, lambda status, *_: statuses.append(status))
        assert statuses == ["403 Forbidden"]


@pytest.mark.parametrize(
    "server",
    ["gunicorn\u00a0x:app", "python -X dev run.py", "uwsgi --ini bad.ini", "python deep.py", "python broken.py"],
)
def test_odd_commands_and_files_are_no_traceback(doctor: Doctor, tmp_path: Path, server: str) -> None:
    (tmp_path / "run.py").write_text(PROGRAMS["literal"])
    (tmp_path / "bad.ini").write_text("[uwsgi]\nmaster\n  foo\n")
    (tmp_path / "deep.py").write_text("import uvicorn\nuvicorn.run(http=uvicorn" + ".a" * 1_500 + ")")
    (tmp_path / "broken.py").write_text("import uvicorn(")
    status, _ = doctor(asgi.protect(bare_asgi, source=ServerTLS()), server)
    assert status in (0, 1)


def test_an_application_whose_import_fails_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "failing_app.py").write_text("raise KeyError('SECRET')")
    done = subprocess.run(
        [sys.executable, "-m", "mtls_middleware", "doctor", "failing_app:app"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "fails with KeyError" in done.stderr
    assert "Traceback" not in done.stderr
