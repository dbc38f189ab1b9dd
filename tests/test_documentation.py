"""What the README and the docs say is so: the code runs, the tables are complete, the commands are there."""

import ast
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import flask
import httpx2
import pytest
import werkzeug.test

from mtls_middleware import oauth_client, policy, sources
from mtls_middleware.responses import RESPONSES
from mtls_middleware.testing import TESTING_ENVIRON, CertificateAuthority
from tests.exports import exported

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text("utf-8")
OVERVIEW = (ROOT / "docs" / "overview.md").read_text("utf-8")
PROXIES = (ROOT / "docs" / "proxies.md").read_text("utf-8")
RESPONSE_PAGE = (ROOT / "docs" / "responses.md").read_text("utf-8")
STANDARDS = (ROOT / "docs" / "standards.md").read_text("utf-8")
SECRET = "secret-of-the-proxy-in-the-readme"
BLOCKS = re.findall(r"```python\n(.*?)```", README + GUIDE + OVERVIEW, re.DOTALL)
REPOSITORY = "https://github.com/mtls-middleware/mtls-middleware/blob/main/"


def block(text: str) -> str:
    (found,) = [each for each in BLOCKS if text in each]
    return found


def shop() -> ModuleType:
    """The application of the README."""
    module = ModuleType("shop")
    exec(block("app.wsgi_app = protect(app.wsgi_app"), vars(module))
    return module


def test_the_example_for_flask_protects_a_flask_application(monkeypatch):
    monkeypatch.setenv("MTLS_PROXY_SECRET", SECRET)
    client = werkzeug.test.Client(shop().app.wsgi_app)
    billing = CertificateAuthority().issue("CN=billing", dns=["billing.internal"])
    proxy = {**TESTING_ENVIRON, "REMOTE_ADDR": "127.0.0.1"}
    sent = billing.as_nginx()
    fields = {"MtlsClientCert": sent["X-SSL-Client-Cert"], "MtlsClientVerify": "SUCCESS", "MtlsProxySecret": SECRET}
    assert client.get("/", headers=fields, environ_overrides=proxy).text == "Hello CN=billing\n"
    assert client.get("/", environ_overrides=proxy).status_code == 403
    stranger = {**TESTING_ENVIRON, "REMOTE_ADDR": "203.0.113.9"}
    assert client.get("/", headers=fields, environ_overrides=stranger).status_code == 403
    del fields["MtlsProxySecret"]
    assert client.get("/", headers=fields, environ_overrides=proxy).status_code == 403


def test_the_test_of_the_guide_passes_for_the_application_of_the_readme(monkeypatch):
    monkeypatch.setenv("MTLS_PROXY_SECRET", SECRET)
    monkeypatch.setitem(sys.modules, "shop", shop())
    names: dict[str, Any] = {}
    exec(block("from shop import"), names)
    tests = [each for name, each in names.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()


def test_the_example_for_starlette_protects_a_starlette_application(monkeypatch):
    import asyncio

    monkeypatch.setenv("MTLS_PROXY_SECRET", SECRET)
    names: dict[str, Any] = {}
    exec(block("source = Envoy("), names)

    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(names["app"])
        async with httpx2.AsyncClient(transport=transport, base_url="http://api") as client:
            return await client.get("/")

    response = asyncio.run(ask())
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="protected", scope="invoices:read"'


def test_the_token_endpoint_of_the_guide_accepts_only_its_client(monkeypatch):
    monkeypatch.setenv("MTLS_PROXY_SECRET", SECRET)
    names = {**vars(shop()), "app": flask.Flask("authorization server")}
    names["app"].add_url_rule("/token", view_func=lambda: oauth_client(flask.request).client_id, methods=["POST"])
    exec(block("app.wsgi_app = ClientCertificateMiddleware("), names)
    ca = CertificateAuthority()
    form = {"client_id": "billing", "grant_type": "client_credentials"}
    for name, status in (("billing.internal", 200), ("shipping.internal", 401)):
        environ = ca.issue(dns=[name]).for_source(names["source"]).environ
        response = names["app"].test_client().post("/token", data=form, environ_overrides=environ)
        assert response.status_code == status


def test_the_rule_of_the_guide_is_a_rule():
    names: dict[str, object] = {}
    exec(block("allow = Subject"), names)
    assert isinstance(names["allow"], policy.Rule)


def test_every_code_block_is_valid_python_and_counted():
    for each in BLOCKS:
        ast.parse(each)
    assert len(BLOCKS) == 6


def test_the_source_of_the_overview_is_one(monkeypatch):
    monkeypatch.setenv("MTLS_PROXY_SECRET", SECRET)
    names: dict[str, Any] = {}
    exec(block("proxy_certificate=SpiffeID"), names)
    assert names["source"].has_secret


def test_the_readme_is_short_and_its_links_work_on_the_package_index():
    assert len(README.splitlines()) < 130
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert all(target.startswith("https://") for target in targets)
    own = [target.removeprefix(REPOSITORY).partition("#")[0] for target in targets if target.startswith(REPOSITORY)]
    assert len(own) > 5
    assert [target for target in own if not (ROOT / target).is_file()] == []


@pytest.mark.parametrize("command", ["sh samples/tour.sh", "sh tests/run.sh"])
def test_the_two_commands_stand_alone_in_a_block_and_name_a_script(command):
    assert f"```\n{command}\n```" in README
    assert (ROOT / command.split()[1]).is_file()


def test_every_source_is_in_the_table_and_in_the_docs():
    others = {"Absence", "HeaderSource", "Peer", "RequestView", "ServerTLS", "Source", "TLSFacts"}
    for name in set(sources.__all__) - others:
        assert re.search(rf"^\|.*`{name}\(", GUIDE, re.MULTILINE), name
        assert f"`{name}(" in PROXIES or f"source = {name}(" in PROXIES, name


def test_every_rule_is_named():
    for name in set(policy.__all__) - {"ANYONE", "Presented", "Rule", "as_rule"}:
        assert f"`{name}`" in GUIDE
        assert hasattr(policy, name)


def test_every_answer_is_in_the_table():
    for code, row in RESPONSES.items():
        if row.error not in (None, "server_error", "temporarily_unavailable"):
            assert re.search(rf"^\|.*{row.status} `{code}`", RESPONSE_PAGE, re.MULTILINE), code


def test_every_construction_in_the_docs_works():
    lines = re.findall(r"`((?:" + "|".join(sources.__all__) + r")\([^`]*\))`", PROXIES)
    assert len(lines) >= 6
    for line in lines:
        complete = (
            line.replace("[...]", "['10.0.0.0/8']")
            .replace("(...)", "('X-Secret', 's' * 16)")
            .replace("[vpc]", "['10.0.0.0/16']")
        )
        if "=" in complete and '"..."' not in complete:
            eval(complete, exported(sources))


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", PROXIES, re.DOTALL))
def test_every_source_of_the_page_of_proxies_has_a_secret(code, monkeypatch):
    monkeypatch.setenv("MTLS_PROXY_SECRET", "new-secret-of-the-proxy,old-secret-of-the-proxy")
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["source"].has_secret
    assert not names["source"].reads_hyphens


def test_every_file_that_the_page_of_standards_names_is_there():
    for name in re.findall(r"`([\w/]+\.py)`", STANDARDS):
        assert (ROOT / "mtls_middleware" / name).is_file(), name


def test_every_link_leads_somewhere():
    for folder, text in ((ROOT, README), (ROOT / "docs", PROXIES + STANDARDS)):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (folder / target).exists(), target


def test_no_path_of_a_machine_is_in_the_project():
    foreign = (".git", ".nox", ".venv", "build", "dist", "node_modules")
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [each for each in folders if not each.startswith(foreign) or each == ".github"]
        for path in (Path(folder, name) for name in names):
            if path.suffix in (".py", ".md", ".toml", ".sh"):
                text = path.read_text("utf-8")
                assert "/wor" + "k/" not in text, path
                assert "/roo" + "t/" not in text, path
