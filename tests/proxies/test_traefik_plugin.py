"""Traefik's plugin for RFC 9440 by itself, without what stands before it; and Traefik without its plugin."""

import shutil
from pathlib import Path

import pytest

from mtls_middleware.cli.proxy_options import ProxyOptions
from tests.live.servers import free_port
from tests.proxies import forgery, programs
from tests.proxies.client import over_http1, over_http2
from tests.proxies.conftest import context, options_for, until_it_answers
from tests.proxies.matrix import Setup

pytestmark = [pytest.mark.live, pytest.mark.case("003"), pytest.mark.standard("I7")]
SETUP = Setup("traefik", "rfc9440", "optional", "HTTPTools")  # which tells every spelling apart
OPTIONS = "tls: {options: application}"
HERE = f"/{SETUP.key}/"
NAMES = (b"client-cert", b"client-cert-chain", b"mtlsclientverify")


@pytest.fixture
def options_of(upstream, server_files: Path, tmp_path: Path) -> ProxyOptions:
    options_of = options_for(SETUP, free_port(), upstream(SETUP), server_files)
    programs.write(options_of, tmp_path)
    return options_of


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), "utf-8")


@pytest.mark.parametrize("kind", ["none", "EC, intermediate"])
def test_the_plugin_alone_lets_no_spelling_of_its_three_names_through(options_of: ProxyOptions, tmp_path: Path, kind):
    rewrite(tmp_path / "traefik.yml", "      aliasHeadersStrategy: delete\n", "      aliasHeadersStrategy: keep\n")
    rewrite(
        tmp_path / "dynamic" / "application.yml",
        "[without-client-certificates, client-certificate, ",
        "[client-certificate, ",
    )
    port = int(options_of.listen.rpartition(":")[2])
    fields = [(name, b":Zm9yZ2Vk:") for name in NAMES]
    request = forgery.Request([
        *fields, *fields, *forgery.renamed(fields, b"_"), *forgery.renamed(fields, b"."), *forgery.mixed(fields),
        (b"x-unrelated_name", b"arrives"), (b"x-ssl-client-cert", b"arrives"),
    ])  # fmt: skip
    with programs.started(
        programs.command(options_of, tmp_path), port, tmp_path, gently=False, **programs.environment(options_of)
    ):
        until_it_answers(port, HERE)
        genuine = over_http1(port, context(kind), HERE, []).report
        for answer in (
            over_http1(port, context(kind), HERE, request.lines),
            over_http2(port, context(kind), HERE, request.for_http2),
        ):
            assert answer.report["certificate"] == genuine["certificate"]
            arrived = [each for each in forgery.arrived("traefik", answer.report) if each[1] != "arrives"]
            assert arrived == forgery.arrived("traefik", genuine)
            # Both went past it: there was something to stop, and it stops no more than it must.
            names = {name for name, value in answer.report["arrived"] if value == "arrives"}
            assert names == {"x-unrelated_name", "x-ssl-client-cert"}


def test_without_its_plugin_traefik_serves_nothing_there(options_of: ProxyOptions, tmp_path: Path):
    shutil.rmtree(tmp_path / "plugins-local")
    rewrite(
        tmp_path / "dynamic" / "application.yml",
        "  routers:\n",
        f"  routers:\n    bare: {{rule: 'Host(`localhost`) && Path(`{HERE}bare`)', service: application, {OPTIONS}}}\n",
    )
    port = int(options_of.listen.rpartition(":")[2])
    with programs.started(
        programs.command(options_of, tmp_path), port, tmp_path, gently=False, **programs.environment(options_of)
    ):
        until_it_answers(port, f"{HERE}bare")
        assert over_http1(port, context("RSA"), HERE, []).status == 404
