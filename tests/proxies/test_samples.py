"""The samples behind each proxy: a token that is bound to a certificate is good with that certificate alone."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware import sources
from mtls_middleware.cli.proxy_options import SECRET_VARIABLE
from mtls_middleware.testing import TokenIssuer
from tests.exports import exported
from tests.key_server import KeyServer
from tests.live.servers import ROOT, free_port
from tests.proxies import forgery, matrix, programs
from tests.proxies.client import Answer, over_http1
from tests.proxies.conftest import context, options_for, server_command, until_it_answers
from tests.proxies.matrix import Setup

pytestmark = [pytest.mark.live, pytest.mark.case("003", "103", "105"), pytest.mark.standard("A1", "A2", "A4")]
SAMPLES = ROOT / "samples"


@dataclass(frozen=True)
class Issued:
    """The victim's token, and what the samples must know to take it."""

    token: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issued]:
    authority = matrix.servers()
    roots = tmp_path_factory.mktemp("roots") / "roots.pem"
    roots.write_text(authority.pem)
    tls = authority.server_context(authority.server(), client_certificates="optional")
    with KeyServer({"keys": []}, tls=tls) as keys:
        issuer = TokenIssuer(keys.url.removesuffix("/jwks"), audience="https://api.example")
        keys.jwks = issuer.jwks
        token = issuer.token(certificate=matrix.certificate("victim"), scopes=["invoices:read"])
        yield Issued(token, {"ISSUER": issuer.issuer, "SSL_CERT_FILE": str(roots)})


def ask(port: int, kind: str, token: str, forged: bool = False) -> Answer:
    fields = [*forgery.forged(), *forgery.escaped()[:1]] if forged else []
    lines = [f"Authorization: Bearer {token}".encode(), *forgery.Request(fields).lines]
    return over_http1(port, context(kind), "/invoices", lines)


@pytest.mark.parametrize("setup", matrix.SAMPLES, ids=str)
def test_the_token_is_good_with_its_certificate_alone(setup: Setup, issued, server_files, tmp_path):
    upstream, port = free_port(), free_port()
    environment = issued.environment | {
        "PROXY": "rfc9440" if setup.form == "rfc9440" else setup.proxy,
        SECRET_VARIABLE: matrix.SECRET,
    }
    command = server_command(setup.server, upstream, "behind_proxy", "app")
    with (
        programs.started(command, upstream, SAMPLES, **environment),
        programs.proxy(options_for(setup, port, upstream, server_files), tmp_path),
    ):
        until_it_answers(port, "/health")
        right = ask(port, "victim", issued.token)
        assert json.loads(right.body) == {"invoices": [17, 42], "for": "CN=victim", "scopes": ["invoices:read"]}
        found = {
            "its certificate": right.status,
            "another client's certificate": ask(port, "RSA", issued.token).status,
            "no certificate": ask(port, "none", issued.token).status,
            "no certificate, its own forged": ask(port, "none", issued.token, forged=True).status,
            "another client's, its own forged": ask(port, "RSA", issued.token, forged=True).status,
        }
    assert found == matrix.SAMPLE_CASES


@pytest.mark.parametrize("setup", matrix.SAMPLES, ids=str)
def test_the_sample_has_the_source_that_the_configuration_states(setup: Setup, monkeypatch):
    monkeypatch.setenv(SECRET_VARIABLE, matrix.SECRET)
    monkeypatch.syspath_prepend(str(SAMPLES))
    module = (SAMPLES / "behind_proxy.py").read_text("utf-8").partition("wsgi_app =")[0]
    sample: dict[str, Any] = {}
    exec(module.replace("from flask_app", "# ").replace("from starlette_app", "# "), sample)
    stated = eval(options_for(setup, 443, 8000, Path()).source(), {**exported(sources), "os": os})
    assert facts(sample["SOURCES"]["rfc9440" if setup.form == "rfc9440" else setup.proxy]) == facts(stated)


def facts(source: sources.HeaderSource) -> list[object]:
    names = ("trusts_address_alone", "reads_hyphens", "has_secret", "drop_headers", "can_verify", "vary")
    return [type(source), *(getattr(source, name) for name in names)]
