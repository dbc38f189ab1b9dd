"""`proxy-config`: what it prints is whole, names the source that fits, deletes what our sources know; docs agree."""

import itertools
import json
import re
from pathlib import Path

import pytest

from mtls_middleware import sources
from mtls_middleware.cli.configuration import configuration
from mtls_middleware.cli.forwarded_fields import DELETED_FIELDS, SET_FIELDS
from mtls_middleware.cli.main import main
from mtls_middleware.cli.proxies import MODES, PROXIES, SECRET
from mtls_middleware.cli.proxy_options import SECRET_VARIABLE, ProxyOptions
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.sources.vendors import KNOWN_HEADERS
from tests.exports import exported

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "proxies.md").read_text("utf-8")
ALL = [(proxy, form, mode) for proxy, row in PROXIES.items() for form in row.source for mode in MODES]


@pytest.mark.parametrize(("proxy", "form", "mode"), ALL)
def test_each_configuration_is_whole_and_names_the_source_that_fits(proxy, form, mode):
    wanted = ProxyOptions(proxy=proxy, form=form, mode=mode, listen="127.0.0.1:8443", upstream="127.0.0.1:8001")
    texts = configuration(wanted)
    whole = "\n".join(texts.values())
    assert "@@" not in whole
    assert f"source = {wanted.source()}" in next(iter(texts.values()))
    for part in (wanted.certificate, "8443", "127.0.0.1:8001" if proxy != "envoy" else "8001"):
        assert part in whole
    source = eval(wanted.source(), exported(sources))
    assert source.can_verify is (mode != "untrusted" or form not in PROXIES[proxy].wordless)


@pytest.mark.parametrize(("proxy", "form"), sorted({each[:2] for each in ALL}))
def test_every_name_that_our_sources_know_is_deleted_or_set(proxy, form):
    whole = "\n".join(configuration(ProxyOptions(proxy=proxy, form=form)).values()).lower()
    words = set(whole.replace(":", " ").replace('"', " ").replace("-x-", "- x-").split())
    missing = {each for each in KNOWN_HEADERS if each not in words and f"-{each}" not in words}
    # Envoy sets and clears its own name by a setting.
    assert missing <= ({"x-forwarded-client-cert"} if proxy == "envoy" else set())


@pytest.mark.parametrize("proxy", PROXIES)
def test_every_field_about_the_connection_is_deleted_or_set(proxy):
    whole = "\n".join(configuration(ProxyOptions(proxy=proxy)).values()).lower()
    words = set(whole.replace(":", " ").replace('"', " ").replace("-x-", "- x-").replace(",", " ").split())
    assert {each for each in DELETED_FIELDS if each not in words and f"-{each}" not in words} == set()
    # Traefik's entry point sets the other three fields.
    assert set(SET_FIELDS) - words <= (set(SET_FIELDS[:3]) if proxy == "traefik" else set())


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_configuration_begins_with_the_lowest_safe_releases(proxy):
    releases, advisory = PROXIES[proxy].safe_releases, PROXIES[proxy].advisory
    first = next(iter(configuration(ProxyOptions(proxy=proxy)).values()))
    assert f"# Lowest safe releases of {proxy}: {releases} ({advisory})\n" in first
    table = PAGE.partition("## Lowest safe releases\n")[2].partition("\n## ")[0]
    assert re.search(
        rf"^\| {proxy} \| {re.escape(releases)} \| {re.escape(advisory)}", table, re.MULTILINE | re.IGNORECASE
    )


def test_where_nothing_matches_by_pattern_each_spelling_is_deleted():
    text = configuration(ProxyOptions(proxy="apache"))["mtls.conf"]
    for dashes in itertools.product("-_", repeat=3):
        assert "RequestHeader unset x{}ssl{}client{}cert\n".format(*dashes) in text


def test_configuration_goes_to_stdout_and_the_source_to_stderr(capsys):
    arguments = ["nginx", "--upstream", "127.0.0.1:9", "--mode", "required", "--no-secret", "--server-name", "a.test"]
    assert main(["proxy-config", *arguments]) == 0
    printed = capsys.readouterr()
    wanted = ProxyOptions(proxy="nginx", upstream="127.0.0.1:9", mode="required", server_names=("a.test",))
    assert printed.out == configuration(
        wanted, command="nginx --mode required --form idiomatic --server-name a.test --no-secret"
    )["mtls.conf"]  # fmt: skip
    assert printed.err == f"source = {wanted.source()}\n"


def test_a_configuration_of_several_files_is_printed_whole_or_written(capsys, tmp_path):
    assert main(["proxy-config", "traefik", "--no-secret"]) == 0
    printed = capsys.readouterr().out
    assert main(["proxy-config", "traefik", "--no-secret", "--output", str(tmp_path)]) == 0
    files = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert sorted(str(each.relative_to(tmp_path)) for each in files) == ["dynamic/application.yml", "traefik.yml"]
    assert printed.startswith("==> traefik.yml <==\n")
    assert all(each.read_text() in printed for each in files)


@pytest.mark.parametrize("proxy", PROXIES)
def test_json_has_the_source_and_the_files_or_their_paths(proxy, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv(SECRET_VARIABLE, "operator-secret-" * 3)
    arguments = ["proxy-config", proxy, "--json"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    written = capsys.readouterr()
    assert (printed.err, written.err) == ("", "")
    found, paths = json.loads(printed.out), json.loads(written.out)
    assert found["source"] == paths["source"]
    assert "operator-secret" not in written.out
    assert {str(tmp_path / name) for name in found["files"]} == set(paths["written"])
    assert "operator-secret" in "".join(found["files"].values())


def test_a_configuration_with_folders_is_written_into_folders_made_for_it(capsys, tmp_path):
    output = tmp_path / "etc" / "traefik"
    for _ in range(2):  # what is there is written over
        assert main(["proxy-config", "traefik", "--form", "rfc9440", "--no-secret", "--output", str(output)]) == 0
    assert "==>" not in capsys.readouterr().out
    plugin = "plugins-local/src/mtls-middleware/clientcert"
    files = {str(each.relative_to(output)) for each in output.rglob("*") if each.is_file()}
    assert files == {"traefik.yml", "dynamic/application.yml", f"{plugin}/.traefik.yml", f"{plugin}/clientcert.go"}
    assert files == set(configuration(ProxyOptions(proxy="traefik", form="rfc9440")))
    module = plugin.removeprefix("plugins-local/src/")
    assert f"moduleName: {module}\n" in (output / "traefik.yml").read_text()
    assert f"import: {module}\n" in (output / plugin / ".traefik.yml").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nginx", "--upstream", "127.0.0.1"], "expected host:port"),
        (["nginx", "--upstream", ":8000"], "a host and a port"),
        (["nginx", "--listen", ":70000"], "expected host:port"),
        (["nginx", "--ca", "/a;} server {"], "a path of letters"),
        (["caddy", "--certificate", "/a\nb"], "a path of letters"),
        (["haproxy", "--key", "/etc/ssl/other.key"], "/etc/ssl/server.pem.key"),
        (["nginx", "--upstream", "app.internal:80", "--no-secret"], "--proxy-address"),
        (["nginx", "--server-name", "A.test"], "in lower case"),
        (["nginx", "--server-name", "10.0.0.7"], "a host name"),
        (["traefik", "--server-name", "a`) || Host(`b"], "a host name"),
        (["caddy", "--server-name", "a.test {"], "a host name"),
        (["nginx", "--proxy-address", 'x"]'], "an address or network"),
        (["traefik", "--upstream", "unix:/run/app.sock"], "cannot use unix sockets"),
        (["nginx", "--upstream", "unix:app.sock"], "an absolute path"),
        (["nginx", "--upstream", "unix:/run/app.sock:/admin"], "an absolute path"),
        (["apache", "--upstream", "unix:/run/app.sock|http://elsewhere"], "an absolute path"),
        (["caddy", "--upstream", "unix:/run/a b.sock"], "an absolute path"),
        (["haproxy", "--upstream", "unix:/" + 107 * "x"], "at most 107"),
        (["envoy", "--upstream", "unix:/run/app.sock", "--proxy-address", "10.0.0.7"], "leave it out"),
        (["nginx", "--crl", "/a; }"], "a path of letters"),
        (["traefik", "--crl", "/a"], "nginx, haproxy, apache, envoy can"),
        (["caddy", "--crl", "/a"], "TrustStore(..., revocation=RevocationLists(...))"),
        (["nginx", "--crl", "/a", "--mode", "untrusted"], "expected mode 'optional' or 'required'"),
        (["nginx", "--ocsp", "https://ocsp.test/"], "begins with http://"),
        (["nginx", "--ocsp", "http://ocsp.test/;}"], "begins with http://"),
        (["apache", "--ocsp", "http://ocsp.test/", "--mode", "untrusted"], "expected mode 'optional' or 'required'"),
        (["haproxy", "--ocsp", "http://ocsp.test/"], "nginx, apache can"),
        (["envoy", "--ocsp", "http://ocsp.test/"], "nginx, apache can"),
        (["traefik", "--ocsp", "http://ocsp.test/"], "nginx, apache can"),
        (["caddy", "--ocsp", "http://ocsp.test/"], "TrustStore(..., revocation=OCSP(responders=...))"),
    ],
)
def test_what_cannot_stand_in_a_configuration_is_refused_with_an_example(arguments, message, capsys):
    assert main(["proxy-config", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_the_comment_names_the_options_for_revocation(capsys):
    assert (
        main(["proxy-config", "apache", "--crl", "/etc/ssl/crl.pem", "--ocsp", "http://ocsp.test", "--no-secret"]) == 0
    )
    assert (
        " --crl /etc/ssl/crl.pem --ocsp http://ocsp.test --no-secret\n"
        in capsys.readouterr().out.partition("\n#\n")[0] + "\n"
    )


UNIX = {
    "nginx": "proxy_pass http://unix:/run/app.sock;",
    "haproxy": "server application /run/app.sock",
    "apache": "ProxyPass / unix:/run/app.sock|http://localhost/",
    "envoy": 'pipe: {path: "/run/app.sock"}',
    "caddy": "reverse_proxy unix//run/app.sock {",
}


@pytest.mark.parametrize(("proxy", "line"), UNIX.items())
def test_a_unix_socket_upstream_is_configured_and_trusted(proxy, line):
    wanted = ProxyOptions(proxy=proxy, upstream="unix:/run/app.sock")
    (text,) = configuration(wanted).values()
    assert line in [each.strip() for each in text.splitlines()]
    assert '(trusted_proxies=["unix"]' in wanted.source()


def test_every_proxy_that_reaches_unix_sockets_is_tried():
    assert UNIX.keys() == {name for name, row in PROXIES.items() if row.unix}


def test_an_application_elsewhere_needs_the_proxys_address():
    wanted = ProxyOptions(proxy="envoy", upstream="app.internal:80", proxy_address="10.0.0.7")
    assert 'trusted_proxies=["10.0.0.7"]' in wanted.source()
    assert "STRICT_DNS" in configuration(wanted)["envoy.yaml"]


def test_an_unknown_proxy_is_refused_by_name():
    with pytest.raises(ConfigurationError, match="nginx, haproxy"):
        ProxyOptions(proxy="squid")


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["proxy-config"], ["proxy-config", "squid"]])
def test_wrong_commands_end_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: mtls-middleware" in capsys.readouterr().err


LANGUAGES = {"nginx": "nginx", "apache": "apache", "haproxy": "haproxy", "yaml": "envoy", "caddyfile": "caddy"}


@pytest.mark.parametrize(("language", "proxy"), LANGUAGES.items())
def test_the_command_prints_every_configuration_line_in_the_docs(language, proxy):
    wanted = ProxyOptions(proxy=proxy, secret_header=SECRET, secret=64 * "0")
    printed = {line.strip() for text in configuration(wanted).values() for line in text.splitlines()}
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert blocks
    assert [line for block in blocks for line in block.splitlines() if line.strip() not in printed] == []
