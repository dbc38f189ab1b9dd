"""The commands of samples/containers run without containers: a new environment, the manifest's commands, real nginx."""

import contextlib
import http.client
import io
import json
import os
import shlex
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.key_server import until
from tests.live.servers import ROOT, free_port
from tests.test_containers import SAMPLES, container

pytestmark = pytest.mark.live
SECRET = "new-secret-of-the-proxy,old-secret-of-the-proxy"
CA, CLIENTS = CertificateAuthority("CN=Server CA"), CertificateAuthority("CN=Clients CA")
# As in the image of nginx: everything that it writes is below /tmp.
NGINX = """
pid TMP/nginx.pid; error_log stderr error;
USER
events { }
http {
    access_log off;
    client_body_temp_path TMP/body; proxy_temp_path TMP/proxy; fastcgi_temp_path TMP/fastcgi;
    uwsgi_temp_path TMP/uwsgi; scgi_temp_path TMP/scgi;
    include CONF/*.conf;
}
"""


class Pod:
    """A folder and ports that stand for those of the pod."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        upstream = free_port()
        self._own = {
            "/etc/nginx/conf.d": f"{folder}/conf.d",
            "/etc/mtls": f"{folder}/mtls",
            "127.0.0.1:8000": f"127.0.0.1:{upstream}",
            ":8443": f"127.0.0.1:{self.port}",
            "shop.example": "localhost",
            "sleep 3600": "sleep 1",
            "nginx -": f"nginx -c {folder}/nginx.conf -e stderr -",
        }
        self.environment = {
            "PATH": f"{folder}/venv/bin{os.pathsep}/usr/sbin{os.pathsep}{os.environ['PATH']}",
            "MTLS_PROXY_SECRET": SECRET,
        }
        for name in ("conf.d", "mtls/server", "mtls/clients-ca", "srv", "tmp"):
            (folder / name).mkdir(parents=True)
        user = "user root;" if os.geteuid() == 0 else ""
        nginx = NGINX.replace("TMP", f"{folder}/tmp").replace("CONF", f"{folder}/conf.d").replace("USER", user)
        (folder / "nginx.conf").write_text(nginx)
        (folder / "mtls/clients-ca/ca.crt").write_text(CLIENTS.pem)
        self.use(CA.server())

    def use(self, server: IssuedCertificate) -> None:
        (self.folder / "mtls/server/tls.crt").write_text(server.chain_pem)
        (self.folder / "mtls/server/tls.key").write_text(server.key_pem)

    def words(self, command: list[str]) -> list[str]:
        for theirs, own in self._own.items():
            command = [each.replace(theirs, own) for each in command]
        return command

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(command),
            cwd=self.folder / "srv",
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    @contextlib.contextmanager
    def started(self, command: list[str]) -> Iterator[None]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                self.words(command),
                cwd=self.folder / "srv",
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield
            finally:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)

    def get(self, path: str, client: IssuedCertificate | None = None, **fields: str) -> tuple[int, str]:
        connection = http.client.HTTPSConnection("localhost", self.port, context=CA.client_context(client), timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=fields)
            response = connection.getresponse()
            return response.status, response.read().decode()


def build(pod: Pod, wheel: Path) -> list[str]:
    """Execute the Dockerfile in a new virtual environment. Returns its command."""
    venv = [sys.executable, "-m", "virtualenv", "--quiet", str(pod.folder / "venv")]
    subprocess.run(venv, check=True, capture_output=True)
    (pod.folder / "constraints.txt").write_text(f"mtls-middleware @ {wheel.as_uri()}\n")
    pip = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HTTP", "SSL_"))}
    pod.environment |= {**pip, "PIP_CONSTRAINT": str(pod.folder / "constraints.txt")}
    command: list[str] = []
    for each in DockerfileParser(fileobj=io.BytesIO((SAMPLES / "Dockerfile").read_bytes())).structure:
        match each["instruction"]:
            case "COPY":
                name, _ = each["value"].split()
                (pod.folder / "srv" / name).write_bytes((SAMPLES / name).read_bytes())
            case "RUN":
                done = pod.run(shlex.split(each["value"]))
                assert done.returncode == 0, done.stdout + done.stderr
            case "CMD":
                command = json.loads(each["value"])
            case other:
                assert other in {"FROM", "WORKDIR", "USER", "COMMENT"}, each
    return command


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def served(pod: Pod) -> bytes | None:
    """The certificate that nginx presents. `None` while it does not listen."""
    with contextlib.suppress(OSError):
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", pod.port), timeout=10))
    return None


def test_the_pod_serves_its_client_and_rejects_everyone_else(tmp_path: Path, wheel: Path) -> None:
    pod = Pod(tmp_path)
    command = build(pod, wheel)
    written = pod.run(container("proxy-config")["command"])
    assert written.returncode == 0, written.stderr
    probe = container("app")["readinessProbe"]["exec"]["command"]
    assert pod.run(probe).returncode != 0  # the application does not run yet
    billing, stock = CLIENTS.issue("CN=billing", dns=["billing.internal"]), CLIENTS.issue(dns=["stock.internal"])
    with pod.started(command), pod.started(container("proxy")["command"]):
        until(lambda: served(pod) is not None and pod.run(probe).returncode == 0, seconds=60)
        assert pod.get("/", billing) == (200, "Hello CN=billing\n")
        assert pod.get("/", stock)[0] == 403
        assert pod.get("/")[0] == 403
        assert pod.get("/health") == (200, "up\n")
        forged = {"MtlsClientCert": billing.as_nginx()["X-SSL-Client-Cert"], "MtlsClientVerify": "SUCCESS"}
        assert pod.get("/", **forged)[0] == 403
        renewed = CA.server()
        pod.use(renewed)
        until(lambda: served(pod) == renewed.der, seconds=30)
