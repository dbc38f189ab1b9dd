"""`proxy-config --secret-header`: where the secret comes from, where it goes, and that nothing else is made of it."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from mtls_middleware import sources
from mtls_middleware.cli.configuration import configuration
from mtls_middleware.cli.main import main
from mtls_middleware.cli.proxies import PROXIES
from mtls_middleware.cli.wanted import SECRET_VARIABLE, Wanted
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.sources.vendors import KNOWN_HEADERS

SECRET = "0123456789abcdef"
BOTH = ["--secret-header", "X-Proxy-Secret"]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)


@pytest.mark.parametrize(("proxy", "form"), [(proxy, form) for proxy, row in PROXIES.items() for form in row.source])
def test_the_proxy_sets_the_secret_and_the_source_demands_it(proxy, form):
    wanted = Wanted(proxy=proxy, form=form, secret_header="X-Proxy-Secret", secret=SECRET)
    whole = "\n".join(configuration(wanted).values())
    lines = [line for line in whole.splitlines() if SECRET in line]
    assert lines
    assert all("X-Proxy-Secret" in line for line in lines)
    stated = f'shared_secret=("X-Proxy-Secret", os.environ["{SECRET_VARIABLE}"])'
    assert f'(trusted_proxies=["127.0.0.1"], {stated}' in wanted.source()
    assert f"#     import os\n#     from mtls_middleware.sources import {wanted.source_class}\n" in whole
    assert type(eval(wanted.source(), {**vars(sources), "os": os})).__name__ == wanted.source_class
    assert SECRET not in wanted.source() + repr(wanted)


def test_without_the_option_nothing_is_read_or_said_of_a_secret(capsys):
    for proxy in PROXIES:
        assert main(["proxy-config", proxy]) == 0
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    assert "secret" not in printed.out.lower() + printed.err.lower()


def test_apache_deletes_each_spelling_of_the_secrets_header_too():
    text = configuration(Wanted(proxy="apache", secret_header="X-Proxy-Secret", secret=SECRET))["mtls.conf"]
    for name in ("x-proxy-secret", "x_proxy-secret", "x-proxy_secret", "x_proxy_secret"):
        assert f"RequestHeader unset {name}\n" in text


@pytest.mark.parametrize(
    "secret",
    [
        None, "", "short", 15 * "x", 257 * "x", 16 * "ä", 16 * "x" + "\n", 16 * " ", 16 * "x" + '"', 16 * "x" + "'",
        16 * "x" + "\\", 16 * "x" + "$remote_addr", 16 * "x" + "%[src]", 16 * "x" + "{env.HOME}", 16 * "x" + "{{ . }}",
        16 * "x" + "#", 16 * "x" + "`", 16 * "x" + ";", "expr=%{REMOTE_ADDR}", "expr=aaaaaaaaaaaaaaaa",
        16 * "x" + "\x00", 16 * "x" + "===",
    ],
)  # fmt: skip
@pytest.mark.parametrize("proxy", ["nginx", "apache"])
def test_a_secret_that_is_missing_short_or_would_be_syntax_is_refused_and_not_shown(proxy, secret):
    with pytest.raises(ConfigurationError, match=f"{SECRET_VARIABLE}.*openssl rand -hex 32") as refused:
        Wanted(proxy=proxy, secret_header="X-Proxy-Secret", secret=secret)
    assert not secret or secret == "short" or secret not in str(refused.value)


@pytest.mark.parametrize(
    "header",
    [
        "", "X", "X-", "-X", "X_Proxy_Secret", "X-Proxy Secret", "X-Proxy-Secret:", 'X-"', "X-a\n", "Host",
        "Connection", "Authorization", "X-" + 40 * "a", "X-SSL-Client-Cert", "x-ssl-client-verify",
        "X-Forwarded-Client-Cert", "X-ä",
    ],
)  # fmt: skip
def test_a_header_that_means_something_else_is_refused(header, capsys):
    assert main(["proxy-config", "nginx", f"--secret-header={header}"]) == 2
    printed = capsys.readouterr()
    assert "such as X-Proxy-Secret" in printed.err
    assert SECRET not in printed.out + printed.err


def test_no_certificate_header_can_be_the_secrets():
    for name in KNOWN_HEADERS:
        with pytest.raises(ConfigurationError):
            Wanted(proxy="caddy", secret_header=name, secret=SECRET)


def test_a_secret_without_header_is_refused():
    with pytest.raises(ConfigurationError, match="X-Proxy-Secret"):
        Wanted(proxy="nginx", secret=SECRET)


def test_a_secret_alone_does_where_nobody_can_say_the_proxys_address():
    wanted = Wanted(proxy="nginx", upstream="app.internal:80", secret_header="X-Proxy-Secret", secret=SECRET)
    assert wanted.source() == f'Nginx(shared_secret=("X-Proxy-Secret", os.environ["{SECRET_VARIABLE}"]))'


def test_the_value_is_no_argument():
    code = "import sys; from mtls_middleware.cli.main import main; sys.exit(main(sys.argv[1:]))"
    for extra in ([SECRET], ["--secret", SECRET]):
        command = [sys.executable, "-c", code, "proxy-config", "nginx", *BOTH, *extra]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (result.returncode, result.stdout) == (2, "")


@pytest.mark.parametrize("proxy", PROXIES)
def test_files_with_the_secret_are_their_owners_alone(proxy, tmp_path):
    assert main(["proxy-config", proxy, *BOTH, "--form", "rfc9440", "--output", str(tmp_path)]) == 0
    files = [each for each in tmp_path.rglob("*") if each.is_file()]
    secret = [each for each in files if SECRET in each.read_text()]
    assert len(secret) == 1
    assert {each for each in files if stat.S_IMODE(each.stat().st_mode) == 0o600} == set(secret)


def test_a_file_that_others_can_read_is_replaced_and_not_written_to(tmp_path):
    there, elsewhere = tmp_path / "mtls.conf", tmp_path / "elsewhere"
    there.write_text("old")
    there.chmod(0o644)
    with there.open() as watching:
        assert main(["proxy-config", "nginx", *BOTH, "--output", str(tmp_path)]) == 0
        assert watching.read() == "old"
    assert stat.S_IMODE(there.stat().st_mode) == 0o600
    elsewhere.touch()
    there.unlink()
    there.symlink_to(elsewhere)
    assert main(["proxy-config", "nginx", *BOTH, "--output", str(tmp_path)]) == 0
    assert elsewhere.read_text() == ""
    assert SECRET in there.read_text()


def test_at_no_moment_others_can_read_it(tmp_path):
    """The mode is given at creation, not afterwards: an open mask does not matter."""
    modes, stop = set(), threading.Event()

    def watch() -> None:
        last = False
        while not last:
            last = stop.is_set()
            for each in tmp_path.iterdir():
                try:
                    modes.add(stat.S_IMODE(each.stat().st_mode))
                except FileNotFoundError:
                    continue

    watcher = threading.Thread(target=watch)
    before = os.umask(0)
    watcher.start()
    try:
        for _ in range(20):
            assert main(["proxy-config", "nginx", *BOTH, "--output", str(tmp_path)]) == 0
    finally:
        os.umask(before)
        stop.set()
        watcher.join()
    assert modes == {0o600}
