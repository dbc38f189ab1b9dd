"""The secret of `proxy-config`: where it comes from, which files hold it, and who can read them."""

import errno
import os
import re
import stat
import subprocess
import sys
import threading

import pytest

from mtls_middleware import sources
from mtls_middleware.cli.configuration import APPLICATION_ENVIRONMENT, PROXY_ENVIRONMENT, configuration
from mtls_middleware.cli.main import main
from mtls_middleware.cli.proxies import PROXIES
from mtls_middleware.cli.proxies import SECRET as HEADER
from mtls_middleware.cli.proxy_config import write_all
from mtls_middleware.cli.proxy_options import SECRET_VARIABLE, ProxyOptions
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.sources.vendors import KNOWN_HEADERS
from tests.exports import exported

SECRET = "0123456789abcdef"
FORMS = [(proxy, form) for proxy, row in PROXIES.items() for form in row.source]
# The file of each proxy that holds the secret, beside the environment file for the application.
HELD_BY = {
    "nginx": "mtls-secret.inc",
    "haproxy": "mtls-secret.map",
    "apache": "mtls-secret.inc",
    "envoy": PROXY_ENVIRONMENT,
    "traefik": "dynamic/secret.yml",
    "caddy": PROXY_ENVIRONMENT,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)


@pytest.fixture
def set_secret(monkeypatch):
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)


def secret_of(folder) -> str:
    return re.fullmatch(rf"(?:#.*\n)+{SECRET_VARIABLE}=(\w+)\n", (folder / APPLICATION_ENVIRONMENT).read_text())[1]


@pytest.mark.parametrize(("proxy", "form"), FORMS)
def test_a_random_secret_is_the_default(proxy, form, tmp_path, capsys):
    made = set()
    for folder in (tmp_path / "1", tmp_path / "2"):
        assert main(["proxy-config", proxy, "--form", form, "--output", str(folder)]) == 0
        secret = secret_of(folder)
        assert re.fullmatch(r"[0-9a-f]{64}", secret)
        assert secret in (folder / HELD_BY[proxy]).read_text()
        made.add(secret)
        printed = capsys.readouterr()
        assert secret not in printed.out + printed.err
        assert f'shared_secret=("{HEADER}", os.environ["{SECRET_VARIABLE}"].split(","))' in printed.err
    assert len(made) == 2


@pytest.mark.parametrize(("proxy", "form"), FORMS)
def test_only_the_named_files_hold_the_secret_with_mode_600(proxy, form, tmp_path, set_secret):
    assert main(["proxy-config", proxy, "--form", form, "--output", str(tmp_path)]) == 0
    files = [each for each in tmp_path.rglob("*") if each.is_file()]
    holding = {each for each in files if SECRET in each.read_text()}
    assert {str(each.relative_to(tmp_path)) for each in holding} == {APPLICATION_ENVIRONMENT, HELD_BY[proxy]}
    assert {each for each in files if stat.S_IMODE(each.stat().st_mode) == 0o600} == holding


@pytest.mark.parametrize(("proxy", "form"), FORMS)
def test_the_source_demands_the_secret_that_the_proxy_sets(proxy, form, monkeypatch, set_secret):
    wanted = ProxyOptions(proxy=proxy, form=form, secret_header=HEADER, secret=SECRET)
    whole = "\n".join(configuration(wanted).values())
    assert f"#     import os\n#     from mtls_middleware.sources import {wanted.source_class}\n" in whole
    source = eval(wanted.source(), {**exported(sources), "os": os})
    assert type(source).__name__ == wanted.source_class
    assert source.has_secret
    assert not source.reads_hyphens
    assert HEADER.lower() in source.drop_headers
    assert SECRET not in wanted.source() + repr(wanted)


def test_writing_again_keeps_the_secret(tmp_path):
    for _ in range(2):
        assert main(["proxy-config", "nginx", "--output", str(tmp_path)]) == 0
        before = secret_of(tmp_path)
    assert main(["proxy-config", "caddy", "--output", str(tmp_path)]) == 0
    assert secret_of(tmp_path) == before


def test_of_several_secrets_the_proxy_sends_the_first(tmp_path, monkeypatch):
    (tmp_path / APPLICATION_ENVIRONMENT).write_text(f"{SECRET_VARIABLE}={SECRET},{SECRET}-old\n")
    assert main(["proxy-config", "nginx", "--output", str(tmp_path)]) == 0
    assert f'"{SECRET}"' in (tmp_path / HELD_BY["nginx"]).read_text()
    assert (tmp_path / APPLICATION_ENVIRONMENT).read_text() == f"{SECRET_VARIABLE}={SECRET},{SECRET}-old\n"
    monkeypatch.setenv(SECRET_VARIABLE, f"{SECRET}-new,{SECRET}")
    assert main(["proxy-config", "nginx", "--output", str(tmp_path)]) == 0
    assert f'"{SECRET}-new"' in (tmp_path / HELD_BY["nginx"]).read_text()


@pytest.mark.parametrize("text", ["", "# nothing\n", f"{SECRET_VARIABLE}=\n", f"X{SECRET_VARIABLE}={SECRET}\n"])
def test_an_environment_file_without_a_secret_is_rejected(text, tmp_path, capsys):
    (tmp_path / APPLICATION_ENVIRONMENT).write_text(text)
    assert main(["proxy-config", "nginx", "--output", str(tmp_path)]) == 2
    assert "remove the file for a new secret" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == [APPLICATION_ENVIRONMENT]


@pytest.mark.parametrize("proxy", PROXIES)
def test_no_secret_needs_the_explicit_option(proxy, tmp_path, set_secret, capsys):
    assert main(["proxy-config", proxy, "--no-secret", "--output", str(tmp_path)]) == 0
    text = "\n".join(each.read_text() for each in tmp_path.rglob("*") if each.is_file())
    assert SECRET not in text + capsys.readouterr().err
    assert HEADER not in text
    assert not (tmp_path / APPLICATION_ENVIRONMENT).exists()


def test_printed_files_are_separated(capsys, set_secret):
    assert main(["proxy-config", "nginx"]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^==> (.*) <==$", printed, re.MULTILINE) == ["mtls.conf", "mtls-secret.inc", "application.env"]
    assert "include mtls-secret.inc;" in printed


@pytest.mark.parametrize(
    ("proxy", "line"), [("nginx", "include {}/mtls-secret.inc;"), ("apache", "Include {}/mtls-secret.inc")]
)
def test_the_configuration_refers_to_the_secret_in_the_output_folder(proxy, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["proxy-config", proxy, "--output", "made"]) == 0
    assert line.format(tmp_path / "made") in (tmp_path / "made" / "mtls.conf").read_text()


def test_a_folder_whose_name_is_syntax_is_rejected(tmp_path, capsys):
    for name in ("a b", 'a";', "a{"):
        assert main(["proxy-config", "nginx", "--output", str(tmp_path / name)]) == 2
        assert "expected a path of letters" in capsys.readouterr().err


def test_apache_deletes_each_spelling_of_a_secret_header_with_dashes():
    text = configuration(ProxyOptions(proxy="apache", secret_header="X-Proxy-Secret", secret=SECRET))["mtls.conf"]
    for name in ("x-proxy-secret", "x_proxy-secret", "x-proxy_secret", "x_proxy_secret"):
        assert f"RequestHeader unset {name}\n" in text


@pytest.mark.parametrize(
    "secret",
    [
        None, "", "short", 15 * "x", 257 * "x", 16 * "ä", 16 * "x" + "\n", 16 * " ", 16 * "x" + '"', 16 * "x" + "'",
        16 * "x" + "\\", 16 * "x" + "$remote_addr", 16 * "x" + "%[src]", 16 * "x" + "{env.HOME}", 16 * "x" + "{{ . }}",
        16 * "x" + "#", 16 * "x" + "`", 16 * "x" + ";", "expr=%{REMOTE_ADDR}", "expr=aaaaaaaaaaaaaaaa",
        16 * "x" + "\x00", 16 * "x" + "===", 16 * "x" + "," + 16 * "y",
    ],
)  # fmt: skip
@pytest.mark.parametrize("proxy", ["nginx", "apache"])
def test_a_short_secret_or_one_with_syntax_is_rejected_and_not_shown(proxy, secret):
    with pytest.raises(ConfigurationError, match=f"{SECRET_VARIABLE}.*openssl rand -hex 32") as refused:
        ProxyOptions(proxy=proxy, secret_header=HEADER, secret=secret)
    assert not secret or secret == "short" or secret not in str(refused.value)


@pytest.mark.parametrize(
    "header",
    [
        "", "X", "X-", "-X", "X_Proxy_Secret", "X-Proxy Secret", "X-Proxy-Secret:", 'X-"', "X-a\n", "Host", "Mtls",
        "Connection", "Authorization", "X-" + 40 * "a", "X-SSL-Client-Cert", "x-ssl-client-verify", "MtlsClientCert",
        "X-Forwarded-Client-Cert", "X-ä", "Mtls_Secret", "mtlsclientverify",
    ],
)  # fmt: skip
def test_a_header_that_has_another_meaning_is_rejected(header, capsys, set_secret):
    assert main(["proxy-config", "nginx", f"--secret-header={header}"]) == 2
    printed = capsys.readouterr()
    assert f"for example {HEADER}" in printed.err
    assert SECRET not in printed.out + printed.err


def test_no_certificate_header_can_be_the_secrets():
    for name in KNOWN_HEADERS:
        with pytest.raises(ConfigurationError):
            ProxyOptions(proxy="caddy", secret_header=name, secret=SECRET)


def test_a_secret_without_header_is_rejected():
    with pytest.raises(ConfigurationError, match=HEADER):
        ProxyOptions(proxy="nginx", secret=SECRET)


def test_a_secret_is_enough_if_the_proxys_address_is_not_known():
    wanted = ProxyOptions(proxy="nginx", upstream="app.internal:80", secret_header=HEADER, secret=SECRET)
    assert "trusted_proxies" not in wanted.source()
    assert f'shared_secret=("{HEADER}", os.environ["{SECRET_VARIABLE}"].split(","))' in wanted.source()


def test_the_secret_is_not_a_command_line_argument():
    code = "import sys; from mtls_middleware.cli.main import main; sys.exit(main(sys.argv[1:]))"
    for extra in ([SECRET], ["--secret", SECRET]):
        command = [sys.executable, "-c", code, "proxy-config", "nginx", *extra]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (result.returncode, result.stdout) == (2, "")


def test_a_file_that_others_can_read_is_replaced_and_not_written_to(tmp_path, set_secret):
    name = HELD_BY["nginx"]
    there, elsewhere = tmp_path / name, tmp_path / "elsewhere"
    there.write_text("old")
    there.chmod(0o644)
    with there.open() as watching:
        assert main(["proxy-config", "nginx", "--output", str(tmp_path)]) == 0
        assert watching.read() == "old"
    assert stat.S_IMODE(there.stat().st_mode) == 0o600
    elsewhere.touch()
    there.unlink()
    there.symlink_to(elsewhere)
    assert main(["proxy-config", "nginx", "--output", str(tmp_path)]) == 0
    assert elsewhere.read_text() == ""
    assert SECRET in there.read_text()


def test_at_no_moment_can_others_read_it(tmp_path):
    """The file has its mode from the start, whatever the umask is."""
    modes, stop = set(), threading.Event()

    def watch() -> None:
        last = False
        while not last:
            last = stop.is_set()
            for name in (HELD_BY["nginx"], APPLICATION_ENVIRONMENT):
                try:
                    modes.add(stat.S_IMODE((tmp_path / name).stat().st_mode))
                except FileNotFoundError:
                    continue

    watcher = threading.Thread(target=watch)
    before = os.umask(0)
    watcher.start()
    try:
        for _ in range(20):
            assert main(["proxy-config", "nginx", "--output", str(tmp_path)]) == 0
    finally:
        os.umask(before)
        stop.set()
        watcher.join()
    assert modes == {0o600}


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("broken", [False, True])
def test_no_file_is_written_through_a_link(proxy, broken, tmp_path):
    """Also those without the secret. A link is replaced by the file."""
    out, victim = tmp_path / "out", tmp_path / "victim"
    assert main(["proxy-config", proxy, "--output", str(tmp_path / "names")]) == 0
    names = [path.relative_to(tmp_path / "names") for path in (tmp_path / "names").rglob("*") if path.is_file()]
    assert len(names) > 1
    for name in names:
        if name.name != APPLICATION_ENVIRONMENT:  # whose secret is kept
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).symlink_to(tmp_path / "absent" if broken else victim)
    victim.write_text("precious")
    assert main(["proxy-config", proxy, "--output", str(out)]) == 0
    assert victim.read_text() == "precious"
    assert not (tmp_path / "absent").exists()
    assert sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file()) == sorted(names)
    assert not any((out / name).is_symlink() for name in names)


def test_a_failed_write_leaves_only_the_old_file(tmp_path):
    (tmp_path / "mtls.conf").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_all(tmp_path, {"mtls.conf": "\ud800"}, None)
    assert (tmp_path / "mtls.conf").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["mtls.conf"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_all(tmp_path, {"folder": "text"}, "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "mtls.conf"]


def rejected(capsys, *arguments: str) -> str:
    """The message of a command that wrote nothing."""
    assert main(["proxy-config", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


# What can stand where the environment file should be.
NOT_OWN = {
    "a FIFO": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link": lambda path: path.symlink_to("elsewhere"),
    "a link to nothing": lambda path: path.symlink_to("absent"),
    "a file that every user can write": lambda path: (
        path.write_text(f"{SECRET_VARIABLE}={SECRET}\n"),
        path.chmod(0o666),
    ),
}


@pytest.mark.parametrize("kind", NOT_OWN)
def test_a_secret_that_another_user_can_choose_is_rejected(kind, tmp_path, capsys):
    (tmp_path / "elsewhere").write_text(f"{SECRET_VARIABLE}={SECRET}\n")
    NOT_OWN[kind](tmp_path / APPLICATION_ENVIRONMENT)
    assert "expected a regular file of the current user" in rejected(capsys, "nginx", "--output", str(tmp_path))
    assert sorted(each.name for each in tmp_path.iterdir()) == [APPLICATION_ENVIRONMENT, "elsewhere"]


def test_a_secret_of_another_user_is_rejected(tmp_path, capsys, monkeypatch):
    path = tmp_path / APPLICATION_ENVIRONMENT
    path.write_text(f"{SECRET_VARIABLE}={SECRET}\n")
    owner = 65534
    if os.geteuid() == 0:
        os.chown(path, owner, owner)
    else:  # only root can give a file to another user
        owner = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert f"of the user {owner}" in rejected(capsys, "nginx", "--output", str(tmp_path))


def test_a_kept_secret_is_closed_to_others(tmp_path):
    path = tmp_path / APPLICATION_ENVIRONMENT
    path.write_text(f"{SECRET_VARIABLE}={SECRET}\n")
    for mode, kept in ((0o644, 0o640), (0o640, 0o640), (0o600, 0o600)):
        path.chmod(mode)
        assert main(["proxy-config", "nginx", "--output", str(tmp_path)]) == 0
        assert stat.S_IMODE(path.stat().st_mode) == kept


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("name", ["dynamic", "plugins-local", "plugins-local/src"])
def test_no_file_is_written_through_a_linked_folder(name, broken, tmp_path, capsys):
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    if not broken:
        elsewhere.mkdir()
    arguments = "traefik", "--form", "rfc9440", "--output", str(tmp_path / "out")
    assert "expected a folder and not a link" in rejected(capsys, *arguments)
    assert broken or list(elsewhere.iterdir()) == []
    assert not [each for each in tmp_path.rglob("*") if each.is_file()]


@pytest.mark.parametrize("name", ["mtls.conf", "mtls-secret.inc"])
def test_a_file_that_cannot_be_replaced_leaves_all_old_files(name, tmp_path, capsys):
    (tmp_path / name).mkdir()
    assert f"{name} is a folder; expected a file" in rejected(capsys, "nginx", "--output", str(tmp_path))
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("below", ["", "folder"])
def test_an_output_that_is_not_a_folder_is_rejected(below, tmp_path, capsys):
    (tmp_path / "file").write_text("precious")
    assert "cannot be written" in rejected(capsys, "nginx", "--output", str(tmp_path / "file" / below))
    assert (tmp_path / "file").read_text() == "precious"


def test_a_full_disk_leaves_all_old_files(tmp_path, monkeypatch, capsys):
    assert main(["proxy-config", "nginx", "--output", str(tmp_path)]) == 0
    before = {each.name: each.read_text() for each in tmp_path.iterdir()}
    opened, made = os.open, []

    def full(path, flags, mode=0o777, **options):
        if flags & os.O_CREAT:
            made.append(path)
            if len(made) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, flags, mode, **options)

    capsys.readouterr()
    monkeypatch.setattr(os, "open", full)
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    assert "No space left on device" in rejected(capsys, "nginx", "--mode", "required", "--output", str(tmp_path))
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == before


def test_no_file_or_folder_can_be_written_by_others(tmp_path):
    before = os.umask(0)
    try:
        assert main(["proxy-config", "traefik", "--form", "rfc9440", "--output", str(tmp_path / "out")]) == 0
    finally:
        os.umask(before)
    written = list((tmp_path / "out").rglob("*"))
    assert {stat.S_IMODE(each.stat().st_mode) for each in written} == {0o600, 0o644, 0o755}
