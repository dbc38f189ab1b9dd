"""The code of docs/integrations.md, by the file name in its first line: what is tested is what the docs say.

The documented applications import `proxy`, the documented source: it is a module here, with a secret of the tests.
"""

import os
import re
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

from mtls_middleware.sources import HeaderSource
from mtls_middleware.testing import IssuedCertificate

DOCS = Path(__file__).resolve().parents[2] / "docs" / "integrations.md"
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL))
PROXY = "127.0.0.1"
ENVIRONMENT = {"MTLS_PROXY_SECRET": "secret-of-the-documented-proxy"}


def _proxy() -> ModuleType:
    module = ModuleType("proxy")
    with mock.patch.dict(os.environ, ENVIRONMENT):
        exec(FILES["proxy.py"], vars(module))
    return module


sys.modules["proxy"] = _proxy()
SOURCE: HeaderSource = vars(sys.modules["proxy"])["source"]


def proxy_fields(certificate: IssuedCertificate, *, verify: str = "SUCCESS") -> dict[str, str]:
    """What the documented proxy sends for a client with this certificate."""
    fields = certificate.as_nginx(verify=verify)
    return {
        "MtlsClientCert": fields["X-SSL-Client-Cert"],
        "MtlsClientVerify": fields["X-SSL-Client-Verify"],
        "MtlsProxySecret": ENVIRONMENT["MTLS_PROXY_SECRET"],
    }
