"""Each proxy and certificates with unusual encodings: binding works, and a trust store rejects them with the reason."""

import pytest

from mtls_middleware.certificate import ClientCertificate
from tests.proxies import encodings, matrix
from tests.proxies.client import in_turn
from tests.proxies.conftest import Stage, issuer

pytestmark = pytest.mark.live


def bearer(thumbprint: str) -> list[bytes]:
    token = issuer().token(claims={"cnf": {"x5t#S256": thumbprint}})
    return [f"Authorization: Bearer {token}".encode()]


@pytest.mark.parametrize("stage", encodings.SETUPS, indirect=True, ids=str)
@pytest.mark.parametrize("kind", encodings.TRIED)
def test_binding_works_and_a_trust_store_says_the_reason(stage: Stage, kind: str):
    thumbprint = ClientCertificate.from_der(encodings.certificate(kind)).thumbprint
    token = f"{stage.path}token/"
    plain, own, other, store, log = in_turn(
        stage.port,
        encodings.context(kind),
        [
            (stage.path, []),
            (token, bearer(thumbprint)),
            (token, bearer(matrix.certificate("victim").thumbprint)),
            (f"{stage.path}roots/", []),
            ("/log/", []),
        ],
    )
    expected = encodings.expected(stage.setup, kind)
    if expected == "refused":
        assert {each.status for each in (plain, own, other, store)} <= {0, 400}
        return
    assert plain.report["certificate"] == {"thumbprint": thumbprint, "verification": expected, "chain": 0}
    assert (own.report["certificate"]["thumbprint"], other.status) == (thumbprint, 401)
    if kind in encodings.ACCEPTED_BY_STORES:
        assert store.report["certificate"]["verification"] == "BY_TRUST_STORE"
    else:
        assert store.status == 403
        assert encodings.reason(kind).lower() in log.report.lower() or "an invalid dNSName" in log.report
