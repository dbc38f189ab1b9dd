"""uWSGI and mod_wsgi, as Debian has them: they embed Debian's Python, and find what we need in `.venv.debian`."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from tests.live.servers import APPLICATIONS, ROOT

DEBIAN = ROOT / ".venv.debian"
PAGE = (ROOT / "docs" / "servers.md").read_text("utf-8")
BLOCKS = re.findall(r"```(apache|sh)\n(.*?)```", PAGE.partition("## mod_wsgi and uWSGI")[2], re.DOTALL)

WSGI = f"{APPLICATIONS}:own_tls"
UWSGI = ["/usr/bin/uwsgi", "--plugins", "http,python3", "--virtualenv", str(DEBIAN), "--die-on-term"]
APACHE = ["/usr/sbin/apache2", "-D", "FOREGROUND", "-f"]
if os.geteuid() == 0:
    # Apache's children become www-data; this lets them read the project wherever it lies, in root's home too.
    APACHE = ["setpriv", "--securebits", "+no_setuid_fixup", *APACHE]

CONFIGURATION = """
ServerRoot {folder}
ServerName localhost
PidFile apache.pid
DefaultRuntimeDir {folder}
ErrorLog /dev/stderr
LogLevel error
{modules}
<IfModule unixd_module>
User www-data
Group www-data
</IfModule>
StartServers 1
Listen 127.0.0.1:{port}
{lines}
WSGIPythonHome {home}
WSGIPythonPath {root}
WSGISocketPrefix {folder}/wsgi
WSGIDaemonProcess daemons python-path={root} threads={threads}
WSGIProcessGroup {group}
WSGIApplicationGroup %{{GLOBAL}}
WSGIScriptAlias / {script}
<Directory {script.parent}>
Require all granted
</Directory>
"""


def uwsgi(port: int, files: Path) -> list[str]:
    """The command line of docs/servers.md, without its program, for `own_tls`."""
    (line,) = (text for kind, text in BLOCKS if kind == "sh")
    line = line.replace("\\\n", " ").replace("0.0.0.0:8443", f"127.0.0.1:{port}").replace("app:app", WSGI)
    for name, file in {"server.pem": "server.pem", "server.key": "server-key.pem", "clients.pem": "ca.pem"}.items():
        line = re.sub(rf"\b{re.escape(name)}", str(files / file), line)
    return [*line.replace("/run/app", str(files)).split()[1:], "--http-keepalive", "--pythonpath", str(ROOT)]


def mod_wsgi(group: str, port: int, files: Path, **instead: str) -> list[str]:
    """Apache with the lines of docs/servers.md; `group`: `daemons`, or `%{GLOBAL}` for processes of Apache itself.

    `instead`: the name of one of those lines -> what it says instead.
    """
    (page,) = (text for kind, text in BLOCKS if kind == "apache")
    page = page.replace("clients.pem", f"{files}/ca.pem")
    for name, value in instead.items():
        page = re.sub(rf"^{name} .*$", f"{name} {value}", page, flags=re.MULTILINE)
    tls = [
        "Protocols h2 http/1.1",
        "SSLEngine on",
        f"SSLCertificateFile {files}/server.pem",
        f"SSLCertificateKeyFile {files}/server-key.pem",
        "WSGICallableObject own_tls",
        page,
    ]
    script = ROOT / "tests" / "live" / "applications.py"
    return apache(port, files, script, tls, modules=("socache_shmcb", "ssl", "http2"), group=group)


def apache(
    port: int,
    folder: Path,
    script: Path,
    lines: Sequence[str] = (),
    *,
    modules: Sequence[str] = (),
    group: str = "daemons",
    threads: int = 2,
) -> list[str]:
    """Write Apache's configuration for mod_wsgi, and give the arguments behind `APACHE`."""
    loaded = "\n".join(
        f"LoadModule {each}_module /usr/lib/apache2/modules/mod_{each}.so"
        for each in ("mpm_event", "authz_core", "wsgi", *modules)
    )
    path = folder / "apache.conf"
    known = {"folder": folder, "port": port, "home": DEBIAN, "root": ROOT, "group": group, "script": script}
    path.write_text(CONFIGURATION.format(modules=loaded, lines="\n".join(lines), threads=threads, **known))
    return [str(path)]
