"""The real proxies, each started with the configuration that `mtls-middleware proxy-config` prints for it."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from mtls_middleware.cli.main import main
from mtls_middleware.cli.proxy_options import SECRET_VARIABLE, ProxyOptions

PATH = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"))

# What a site's file lies in. Debian's nginx and Apache bring this themselves.
NGINX = """
{njs}
daemon off; master_process off; pid nginx.pid; error_log stderr error;
events {{ }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include mtls.conf;
}}
"""
MODULES = ["mpm_event", "authz_core", "alias", "headers", "socache_shmcb", "ssl", "http2", "proxy", "proxy_http"]
APACHE = """
ServerRoot {folder}
ServerName localhost
PidFile apache.pid
DefaultRuntimeDir {folder}
ErrorLog /dev/stderr
LogLevel error
{modules}
<IfModule unixd_module>
User {user}
</IfModule>
StartServers 1
Include mtls.conf
"""


def program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    assert found is not None, f"{name} is not installed: sh tests/run.sh does that"
    return found


def version(name: str) -> str:
    """As the program itself says it."""
    arguments = {"envoy": "--version", "caddy": "version", "traefik": "version"}.get(name, "-v")
    command = [program("apache2" if name == "apache" else name), arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"\d+\.\d+\.\d+", result.stdout + result.stderr)
    assert found is not None, result
    return found[0]


def write(wanted: ProxyOptions, folder: Path) -> None:
    """The configuration's files, by the command itself."""
    arguments = ["proxy-config", wanted.proxy, "--mode", wanted.mode, "--form", wanted.form]
    for name in ("listen", "upstream", "ca", "certificate", "key", "crl", "ocsp"):
        if (value := getattr(wanted, name)) is not None:
            arguments += [f"--{name}", value]
    for name in wanted.server_names:
        arguments += ["--server-name", name]
    arguments += ["--no-secret"] if wanted.secret_header is None else ["--secret-header", wanted.secret_header]
    with mock.patch.dict(os.environ, environment(wanted)):
        assert main([*arguments, "--output", str(folder)]) == 0


def environment(wanted: ProxyOptions) -> dict[str, str]:
    """What the proxy and the application find in their environment."""
    return {} if wanted.secret is None else {SECRET_VARIABLE: wanted.secret}


def command(wanted: ProxyOptions, folder: Path) -> list[str]:
    match wanted.proxy:
        case "nginx":
            njs = "load_module /usr/lib/nginx/modules/ngx_http_js_module.so;" if wanted.form == "rfc9440" else ""
            (folder / "nginx.conf").write_text(NGINX.format(njs=njs))
            return [program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
        case "haproxy":
            return [program("haproxy"), "-db", "-q", "-f", "haproxy.cfg"]
        case "apache":
            modules = "\n".join(f"LoadModule {each}_module /usr/lib/apache2/modules/mod_{each}.so" for each in MODULES)
            user = "www-data"
            (folder / "apache.conf").write_text(APACHE.format(folder=folder, modules=modules, user=user))
            return [program("apache2"), "-f", str(folder / "apache.conf"), "-D", "FOREGROUND"]
        case "envoy":
            options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
            return [program("envoy"), "-c", "envoy.yaml", *options]
        case "traefik":
            return [program("traefik"), "--configFile=traefik.yml"]
        case _:
            return [program("caddy"), "run", "--config", "Caddyfile", "--adapter", "caddyfile"]


@contextlib.contextmanager
def started(
    command: list[str], at: int | Path, folder: Path, *, gently: bool = True, **environment: str
) -> Iterator[None]:
    """Processes, from when it accepts connections `at` a port or socket, to the end of the block; then all is gone."""
    with tempfile.TemporaryFile() as log:
        # setpriv: what a killed test run leaves behind ends with it.
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *command],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            until = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < until:
                with contextlib.suppress(OSError):
                    knock(at)
                    break
                time.sleep(0.02)
            else:
                log.seek(0)
                raise AssertionError(f"{command} did not start:\n{log.read().decode(errors='replace')[-4000:]}")
            yield
        finally:
            end(process, gently=gently)


def knock(at: int | Path) -> None:
    """Raises `OSError` where nobody listens."""
    with socket.socket(socket.AF_INET if isinstance(at, int) else socket.AF_UNIX) as client:
        client.settimeout(1)
        client.connect(("127.0.0.1", at) if isinstance(at, int) else str(at))


def end(process: subprocess.Popen[bytes], *, gently: bool) -> None:
    """Asks the whole group to stop, insists after five seconds, and sees that nobody is left."""
    for signum, patience in ((signal.SIGTERM, 5.0 * gently), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        until = time.monotonic() + patience
        while time.monotonic() < until:
            process.poll()
            if not alive(process.pid):
                return
            time.sleep(0.02)
    raise AssertionError(f"{process.args} left processes behind")


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def proxy(wanted: ProxyOptions, folder: Path, *, add: Callable[[], None] = lambda: None) -> Iterator[None]:
    """The proxy that `wanted` describes, its files in `folder`. `add` may change them before it starts."""
    write(wanted, folder)
    add()
    port = int(wanted.listen.rpartition(":")[2])
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    # Asked gently, Traefik takes two seconds to stop, whether there is anything to wait for or not.
    with started(
        command(wanted, folder), port, folder, gently=wanted.proxy != "traefik", **home, **environment(wanted)
    ):
        yield
