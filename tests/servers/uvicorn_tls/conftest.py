"""What uvicorn is started with."""

from pathlib import Path

import pytest

from tests.servers.uvicorn_tls.server import CA, SERVER


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = SERVER.write(directory, name="server")
    roots = directory / "roots.pem"
    roots.write_text(CA.pem)
    return {"ssl_certfile": certificate, "ssl_keyfile": key, "ssl_ca_certs": roots}
