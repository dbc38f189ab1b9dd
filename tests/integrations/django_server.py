"""django-oauth-toolkit on a real server, WSGI or ASGI, with the files of docs/integrations.md, and a client of it."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2

from tests.integrations import django_project
from tests.integrations.clients import authorization_query, code_form
from tests.integrations.page_code import proxy_fields
from tests.live.servers import free_port, running


class Server:
    """A client of the running server, behind the documented proxy."""

    def __init__(self, kind: str, port: int, log: Callable[[], str]) -> None:
        self.kind, self.log = kind, log
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

    def ask(self, method, path, certificate=None, *, verify="SUCCESS", headers=None, **options):
        shown = proxy_fields(certificate, verify=verify) if certificate else {}
        return self.http.request(method, path, headers={**shown, **(headers or {})}, **options)

    def post(self, path, form, certificate=None, **options):
        return self.ask("POST", path, certificate, data=form, **options)

    def token(self, client_id, certificate=None, **options):
        form = {"grant_type": "client_credentials", "client_id": client_id}
        return self.post("/o/token/", form, certificate, **options)

    def code(self, client_id, verifier, scope="read"):
        query = {**authorization_query(client_id, verifier), "scope": scope}
        self.http.get("/login")
        location = self.http.get("/o/authorize/", params=query).headers["Location"]
        self.http.cookies.clear()
        return code_form(location, client_id, verifier)


@contextlib.contextmanager
def serving(
    kind: str, directory: Path, ca: str, clients: dict[str, dict[str, Any]], **provider: Any
) -> Iterator[Server]:
    """`kind`: `"gunicorn"` or `"uvicorn"`. `provider`: more of `OAUTH2_PROVIDER`."""
    port, environment = free_port(), django_project.write(directory, ca, clients, **provider)
    commands = {
        "gunicorn": ["gunicorn", "wsgi:application", "--chdir", str(directory), "--bind", f"127.0.0.1:{port}"],
        "uvicorn": ["uvicorn", "asgi:application", "--port", str(port), "--no-proxy-headers", "--lifespan", "off"],
    }
    more = {"gunicorn": ["--no-control-socket"], "uvicorn": ["--app-dir", str(directory)]}
    with running(["-m", *commands[kind], *more[kind]], port, **environment) as log:
        server = Server(kind, port, log)
        with server.http:
            yield server
