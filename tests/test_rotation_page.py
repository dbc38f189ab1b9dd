"""docs/rotation.md is true: what is renewed is accepted in the order and within the time that the page says."""

import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import werkzeug.test

from mtls_middleware import wsgi
from mtls_middleware.policy import DNSName, IssuedBy, Thumbprint
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import TESTING_ENVIRON, CertificateAuthority, IssuedCertificate, TokenIssuer
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.validation.authority import crl

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "rotation.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
OLD, NEW = CertificateAuthority("CN=Old CA"), CertificateAuthority("CN=New CA")


def block(text: str) -> str:
    (found,) = [each for each in BLOCKS if text in each]
    return found


def status(app: Any, client: IssuedCertificate | None = None, **fields: str) -> int:
    environ = {**TESTING_ENVIRON, **({} if client is None else client.as_environ())}
    return werkzeug.test.Client(app).get("/", headers=fields, environ_overrides=environ).status_code


def seen(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b""]


def test_no_block_is_untried() -> None:
    assert len(BLOCKS) == 3


def test_the_name_stays_but_the_token_does_not(mtls_issuer: TokenIssuer) -> None:
    before, after = OLD.issue(dns=["billing.internal"]), OLD.issue(dns=["billing.internal"])
    app = wsgi.protect(seen, source=ServerTLS(), allow=DNSName("billing.internal"), tokens=mtls_issuer.access_tokens())
    for_old, for_new = (f"Bearer {mtls_issuer.token(certificate=each)}" for each in (before, after))
    assert status(app, before, Authorization=for_old) == 200
    assert status(app, after, Authorization=for_old) == 401
    assert status(app, after, Authorization=for_new) == 200


def test_both_thumbprints_are_allowed() -> None:
    names: dict[str, Any] = {}
    exec(block("Thumbprint(OLD)"), names)
    assert names["allow"] == Thumbprint(names["OLD"]) | Thumbprint(names["NEW"])
    before, after, other = OLD.issue(), OLD.issue(), OLD.issue()
    rule = Thumbprint(before.thumbprint) | Thumbprint(after.thumbprint)
    app = wsgi.protect(seen, source=ServerTLS(), allow=rule)
    assert [status(app, each) for each in (before, after, other)] == [200, 200, 403]


def test_roots_change_after_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    roots = tmp_path / "clients-ca.d"
    roots.mkdir()
    (roots / "old.pem").write_text(OLD.pem)
    app = SimpleNamespace(wsgi_app=seen)
    exec(block("clients-ca.d"), {"app": app})
    before, after = OLD.issue(), NEW.issue()
    assert (status(app.wsgi_app, before), status(app.wsgi_app, after)) == (200, 403)
    (roots / "new.pem").write_text(NEW.pem)
    time.sleep(1.1)
    assert (status(app.wsgi_app, before), status(app.wsgi_app, after)) == (200, 200)
    (roots / "old.pem").unlink()
    time.sleep(1.1)
    assert (status(app.wsgi_app, before), status(app.wsgi_app, after)) == (403, 200)
    (roots / "new.pem").unlink()
    time.sleep(1.1)
    assert status(app.wsgi_app, after) == 200  # the last root stays in use


def test_a_new_key_of_a_ca_needs_both_files(tmp_path: Path) -> None:
    for name, authority in (("old-ca.pem", OLD), ("new-ca.pem", NEW)):
        (tmp_path / name).write_text(authority.pem)
    rule = IssuedBy(tmp_path / "old-ca.pem") | IssuedBy(tmp_path / "new-ca.pem")
    store = TrustStore([OLD.certificate, NEW.certificate])
    both = wsgi.protect(seen, source=ServerTLS(), trust_store=store, allow=rule)
    one = wsgi.protect(seen, source=ServerTLS(), trust_store=store, allow=IssuedBy(tmp_path / "old-ca.pem"))
    (tmp_path / "old-ca.pem").write_text(NEW.pem)
    assert [status(app, each.issue()) for app in (both, one) for each in (OLD, NEW)] == [200, 200, 200, 403]


def test_a_new_revocation_list_counts_after_a_second(tmp_path: Path) -> None:
    file, client, now = tmp_path / "clients.crl", OLD.issue(), time.time()
    file.write_bytes(crl(OLD, now=now, begins=-7200))
    store = TrustStore([OLD.certificate], revocation=RevocationLists([file]))
    app = wsgi.protect(seen, source=ServerTLS(), trust_store=store)
    assert status(app, client) == 200
    (tmp_path / "new").write_bytes(crl(OLD, [client], now=now))
    (tmp_path / "new").replace(file)
    time.sleep(1.1)
    assert status(app, client) == 403


def test_the_shared_secret_changes_in_three_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = "old-secret-of-the-proxy", "new-secret-of-the-proxy"
    fields = OLD.issue().as_nginx()
    sent = {"MtlsClientCert": fields["X-SSL-Client-Cert"], "MtlsClientVerify": "SUCCESS"}

    def statuses(accepted: str) -> list[int]:
        monkeypatch.setenv("MTLS_PROXY_SECRET", accepted)
        names: dict[str, Any] = {}
        exec(block("MTLS_PROXY_SECRET"), names)
        app = wsgi.protect(seen, source=names["source"])
        proxy = {**TESTING_ENVIRON, "REMOTE_ADDR": "127.0.0.1"}
        client = werkzeug.test.Client(app)
        return [
            client.get("/", headers={**sent, "MtlsProxySecret": secret}, environ_overrides=proxy).status_code
            for secret in (old, new)
        ]

    assert [statuses(each) for each in (old, f"{new},{old}", new)] == [[200, 403], [200, 200], [403, 200]]
