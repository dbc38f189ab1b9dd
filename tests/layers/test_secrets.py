"""What is written down of a request and answered to it, and what is not."""

import ast
import logging
import re
from pathlib import Path
from typing import Any

import pytest

import mtls_middleware
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import PROXY, STRANGER, Request, both_gateways, send
from tests.layers.world import SECRET, TRUSTED, nginx

HOSTILE = "\r\n\x1b[2JINFO all is well"


@both_gateways
@pytest.mark.parametrize("case", ["400", "401", "403", "500", "ignored", "misplaced"])
@pytest.mark.case("155", "156")
def test_logs_and_answers_quote_nothing_of_the_request(
    gateway: str, case: str, mtls_ca: Any, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = mtls_ca.issue('CN=mallory\\"\\0D\\0A\\1B[2Jevil,O=Tests', dns=["mallory.example.test"])
    token = mtls_issuer.token(certificate=client, claims={"exp": 1} if case == "401" else {}, scopes=["read"])

    class Quoting:
        def validate(self, text: str, _now: float) -> Any:
            raise RuntimeError(f"cannot read {text} of {client.pem}")

    def wrap(module: Any, app: Any) -> Any:
        source = Nginx(trusted_proxies=TRUSTED, shared_secret=SECRET)
        tokens = Quoting() if case == "500" else mtls_issuer.access_tokens()
        inner = module.CertificateBoundTokenMiddleware(app, tokens, scopes=["write"])
        return inner if case == "misplaced" else module.ClientCertificateMiddleware(inner, source)

    certificate, verify = nginx(client)
    headers = [certificate, verify, SECRET, ("Authorization", f"Bearer {token}")]
    if case == "400":
        headers[0] = (certificate[0], certificate[1] + "%00")
    request = Request(
        headers=headers, path="/x" + HOSTILE, method="G" + HOSTILE, peer=STRANGER if case == "ignored" else PROXY
    )
    result = send(gateway, wrap, request)
    status = {"misplaced": 500, "ignored": 401}.get(case) or int(case)
    assert (result.status, result.seen) == (status, None)

    lines = [logging.Formatter("%(levelname)s %(message)s").format(each) for each in caplog.records]
    answer = result.body.decode() + repr(result.headers)
    assert lines
    base64_of_pem = client.pem.split("\n")[1]
    for secret in (token, token.split(".")[1], token.split(".")[2], SECRET[1], base64_of_pem, "Bearer ey", "mallory"):
        assert not [line for line in lines if secret in line]
        assert secret not in answer
    for line in lines:
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", line)
        assert "\nINFO all is well" not in line
    assert "all is well" not in answer
    assert re.fullmatch(r"[\x20-\x7e]*", result.body.decode())


@both_gateways
@pytest.mark.parametrize("error", ["invalid_token", "invalid_request", "insufficient_scope"])
@pytest.mark.standard("G8", "G9")
@pytest.mark.case("156")
def test_challenge_holds_each_parameter_once_in_its_characters(
    gateway: str, error: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    def wrap(module: Any, app: Any) -> Any:
        inner = module.CertificateBoundTokenMiddleware(
            app,
            mtls_issuer.access_tokens(),
            scopes=["write", "read"],
            resource_metadata="https://api.test/.well-known/oauth-protected-resource",
        )
        return module.ClientCertificateMiddleware(inner, ServerTLS())

    sub = 'a", error="none\r\nX-Evil: 1\\'
    text = mtls_issuer.token(
        certificate=mtls_client, claims={"sub": sub, "exp": 1 if error == "invalid_token" else ...}
    )
    if error == "insufficient_scope":
        text = mtls_issuer.token(certificate=mtls_client, claims={"sub": sub, "scope": 'x" error="none'})
    if error == "invalid_request":
        text += '", error="none'
    result = send(gateway, wrap, Request(tls=mtls_client, headers=[("Authorization", f"Bearer {text}")]))
    challenge = result.header("WWW-Authenticate") or ""
    assert re.fullmatch(r'Bearer (?:[a-z_]+="[\x20-\x21\x23-\x5b\x5d-\x7e]+"(?:, |$))+', challenge)
    names = re.findall(r'([a-z_]+)="', challenge)
    assert len(names) == len(set(names))
    assert f'error="{error}"' in challenge
    assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", re.findall(r'error_description="([^"]+)"', challenge)[0])


@pytest.mark.case("158")
def test_secrets_and_thumbprints_are_compared_in_constant_time() -> None:
    """By reading the source: these two files compare with `hmac.compare_digest`, and no digest by `==`."""
    package = Path(mtls_middleware.__file__).parent
    for name in ("binding.py", "sources/trust.py"):
        tree = ast.parse((package / name).read_text("utf-8"))
        calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert "hmac.compare_digest" in calls, name
        compared = " ".join(
            ast.unparse(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Eq, ast.NotEq))
        )
        assert not re.search(r"digest|thumbprint|x5t|secret|\bgiven\b(?!\))", compared), name
