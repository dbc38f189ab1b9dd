"""Runs `mtls-middleware doctor` on an application, and gives what it found."""

import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware.cli.main import main
from mtls_middleware.sources import Nginx

NETWORKS: dict[str, Any] = {"trusted_proxies": ["10.0.0.0/8"]}
SAFE: dict[str, Any] = {**NETWORKS, "shared_secret": ("X-Proxy-Secret", "s" * 16)}
NGINX = Nginx(**SAFE)
NO_HYPHENS = Nginx(
    **NETWORKS,
    shared_secret=("MtlsProxySecret", "s" * 16),
    certificate_header="MtlsClientCert",
    verify_header="MtlsClientVerify",
)

Doctor = Callable[..., tuple[int, list[dict[str, str]]]]


def bare(environ: Any, start_response: Any) -> list[bytes]:
    return []


async def bare_asgi(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Doctor:
    """Exit status and findings. The working folder is `tmp_path`, and no variable of a server is set."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("GUNICORN_", "UVICORN_", "GRANIAN_", "UWSGI_", "FORWARDED_")):
            monkeypatch.delenv(name)

    def doctor(app: object, server: str | None = None) -> tuple[int, list[dict[str, str]]]:
        module = types.ModuleType("examined")
        module.app = app
        monkeypatch.setitem(sys.modules, "examined", module)
        monkeypatch.setattr(sys, "path", list(sys.path))
        status = main(["doctor", "examined:app", "--json", *([] if server is None else ["--server", server])])
        return status, json.loads(capsys.readouterr().out)

    return doctor
