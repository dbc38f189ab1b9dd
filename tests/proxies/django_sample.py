"""Runs samples/django_site behind nginx, with the account of alice, who may open the admin."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mtls_middleware.cli.proxy_options import SECRET_VARIABLE
from tests.live.servers import ROOT, free_port
from tests.proxies import matrix, programs
from tests.proxies.conftest import options_for, until_it_answers
from tests.proxies.matrix import Setup

SITE = ROOT / "samples" / "django_site"
NAME = "alice@corp.example"
ALICE = {"user_principal_names": [NAME]}
SERVERS = {
    "gunicorn": ("gunicorn", "shop.wsgi:application", "--bind", "127.0.0.1:PORT", "--no-control-socket"),
    "uvicorn": ("uvicorn", "shop.asgi:application", "--port", "PORT", "--no-proxy-headers", "--log-level", "error"),
}


def manage(command: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", *command.split()],
        cwd=SITE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def variables(folder: Path, *others: str, staff: str | None = None) -> dict[str, str]:
    """The variables that the sample reads. `others`: CAs that nginx accepts, but that have no staff, in PEM format."""
    authority = matrix.clients().pem if staff is None else staff
    (folder / "staff-ca.pem").write_text(authority)
    (folder / "client-cas.pem").write_text("".join((authority, *others)))
    return {
        "STAFF_CA": str(folder / "staff-ca.pem"),
        "CLIENT_CAS": str(folder / "client-cas.pem"),
        "DATABASE": str(folder / "db.sqlite3"),
    }


@contextlib.contextmanager
def running(server: str, environment: dict[str, str], server_files: Path, folder: Path) -> Iterator[int]:
    """The sample on this server, behind nginx. Gives the port of nginx."""
    upstream, port = free_port(), free_port()
    files, proxys = folder / "files", folder / "nginx"
    files.mkdir()
    proxys.mkdir()
    for name in ("server.pem", "server.pem.key"):
        (files / name).write_text((server_files / name).read_text())
    (files / "ca.pem").write_text(Path(environment["CLIENT_CAS"]).read_text())
    manage("migrate", environment)
    manage(f"createsuperuser --noinput --email {NAME} --username {NAME}", environment)
    command = [sys.executable, "-m", *(each.replace("PORT", str(upstream)) for each in SERVERS[server])]
    settings = {**environment, SECRET_VARIABLE: matrix.SECRET, "PYTHONPATH": f"{ROOT}{os.pathsep}{SITE}"}
    setup = Setup("nginx", "idiomatic", "optional", "")
    with (
        programs.started(command, upstream, SITE, **settings),
        programs.proxy(options_for(setup, port, upstream, files), proxys),
    ):
        until_it_answers(port, "/")
        yield port
