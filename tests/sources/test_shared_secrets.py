"""A shared secret with several values, so that the operator can change it without an outage."""

from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.sources import Nginx
from mtls_middleware.sources import trust as module
from mtls_middleware.testing import IssuedCertificate
from tests.ids import shown
from tests.sources.requests import through_asgi, through_wsgi

NAME, NEW, OLD = "MtlsProxySecret", "new secret, sixteen", "old secret, sixteen"
BOTH: list[Any] = [
    (NAME, [NEW, OLD]),
    (NAME, NEW, OLD),
    (NAME, (NEW, OLD)),
    (NAME, {NEW, OLD}),
    (NAME, [NEW, OLD, NEW]),
]


@pytest.mark.parametrize("through", [through_wsgi, through_asgi])
@pytest.mark.parametrize("secret", BOTH, ids=range(len(BOTH)))
def test_each_value_is_accepted_and_no_other(secret: Any, through: Any, mtls_client: IssuedCertificate) -> None:
    source, fields = Nginx(shared_secret=secret), list(mtls_client.as_nginx().items())
    for value in (NEW, OLD):
        found = through(source, [*fields, (NAME, value)])
        assert found.certificate is not None
        assert NAME.lower() not in found.names
    for value in ("", NEW[:-1], NEW + OLD, f"{NEW},{OLD}", f"{NEW}, {OLD}", str([NEW, OLD]), "another secret, sixteen"):
        assert through(source, [*fields, (NAME, value)]).certificate is None
    assert through(source, [*fields, (NAME, NEW), (NAME, OLD)]).certificate is None


@pytest.mark.parametrize("secret", [(NAME, NEW), (NAME, [NEW]), [NAME, NEW]], ids=shown)
def test_one_value_is_a_pair(secret: Any, mtls_client: IssuedCertificate) -> None:
    fields = list(mtls_client.as_nginx().items())
    assert through_wsgi(Nginx(shared_secret=secret), [*fields, (NAME, NEW)]).certificate is not None
    assert through_wsgi(Nginx(shared_secret=secret), [*fields, (NAME, OLD)]).certificate is None


def test_every_value_is_compared(mtls_client: IssuedCertificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """No early exit: the time is the same for the first value and for the last."""
    compared: list[bytes] = []
    real = module.hmac.compare_digest
    monkeypatch.setattr(module.hmac, "compare_digest", lambda a, b: compared.append(b) or real(a, b))
    source, fields = Nginx(shared_secret=(NAME, [NEW, OLD])), list(mtls_client.as_nginx().items())
    for value in (NEW, OLD, "neither"):
        through_wsgi(source, [*fields, (NAME, value)])
        assert compared == [NEW.encode(), OLD.encode()]
        compared.clear()


WRONG: list[Any] = [
    (NAME, []), (NAME, ()), (NAME, set()), (NAME,), (NAME, [NEW, ""]), (NAME, [NEW, "short"]), (NAME, NEW, "short"),
    (NAME, [NEW, OLD.encode()]), (NAME, NEW, OLD.encode()), (NAME, OLD.encode()), (NAME, [NEW, None]),
    (NAME, NEW, None),
    (NAME, NEW, [OLD]), (NAME, [NEW], OLD), (NAME, [[NEW, OLD]]), (NAME, {NEW: OLD}), (NAME, iter([NEW, OLD])),
    (NAME, [NEW, OLD + "\n"]), (NAME, [NEW, OLD + "\u00e9"]), (NAME, [NEW, " " + OLD]), [], (), {}, NAME, (NEW, NAME),
    ("X Secret", NEW), (b"X-Secret", NEW), (None, NEW), ("Content-Type", [NEW, OLD]),
]  # fmt: skip


@pytest.mark.parametrize("secret", WRONG, ids=range(len(WRONG)))
def test_an_invalid_secret_is_rejected_and_not_shown(secret: Any) -> None:
    with pytest.raises(ConfigurationError, match="secret") as refused:
        Nginx(shared_secret=secret)
    shown = str(refused.value)
    assert [value for value in (NEW, OLD, "short") if value in shown] == []
    assert refused.value.__cause__ is None
