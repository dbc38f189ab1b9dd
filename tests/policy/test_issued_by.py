"""`IssuedBy`: the rule about the CA in the validated path."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware import ConfigurationError
from mtls_middleware.effects import BlockingDriver
from mtls_middleware.policy import ANYONE, DNSName, IssuedBy, Presented
from mtls_middleware.rule import Result
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from mtls_middleware.testing.template import make
from mtls_middleware.validation import TrustStore
from tests.attacks.test_fresh import relay
from tests.gateways import MODULES, Request, both_gateways, send
from tests.layers.clock import Clock, clock
from tests.layers.test_validity import Layers
from tests.layers.world import TRUSTED, certificates

__all__ = ["clock"]

NAME = "CN=Partner CA,O=Partner"
PARTNER, NAMESAKE = CertificateAuthority(NAME), CertificateAuthority(NAME)
OURS = CertificateAuthority("CN=Our CA")
ISSUING = PARTNER.intermediate("CN=Issuing CA")
STORE = TrustStore([PARTNER.certificate, NAMESAKE.certificate, OURS.certificate])
NOW = PARTNER.certificate.not_valid_before_utc.timestamp() + 3_600


def judged(rule: Any, client: IssuedCertificate, store: TrustStore | None = STORE) -> Result:
    certificate = client.client_certificate()
    if store is not None:
        certificate = BlockingDriver().run(store.validate(certificate, NOW))
    result: Result = rule.judge(certificate)
    return result


CLIENTS = {
    "the root itself": (PARTNER.issue("CN=a"), True),
    "an intermediate of it": (ISSUING.issue("CN=a"), True),
    "another root": (OURS.issue("CN=a"), False),
    "another root with the same name": (NAMESAKE.issue("CN=a"), False),
    "an intermediate with the same name": (NAMESAKE.intermediate("CN=Issuing CA").issue("CN=a"), False),
}  # fmt: skip


@pytest.mark.parametrize(("client", "expected"), CLIENTS.values(), ids=CLIENTS)
def test_the_path_must_go_through_this_key(client: IssuedCertificate, expected: bool) -> None:
    assert judged(IssuedBy(PARTNER.certificate), client) is expected
    assert judged(~IssuedBy(PARTNER.certificate), client) is not expected


def test_an_intermediate_can_be_the_authority() -> None:
    rule = IssuedBy(ISSUING.certificate)
    assert judged(rule, ISSUING.issue("CN=a")) is True
    assert judged(rule, PARTNER.issue("CN=a")) is False


def test_a_renewed_ca_certificate_with_the_same_key_is_the_same_authority() -> None:
    renewed = make(NAME, None, key=PARTNER.key, ca=True).x509
    assert renewed != PARTNER.certificate
    assert judged(IssuedBy(renewed), PARTNER.issue("CN=a")) is True


def test_the_clients_own_key_is_no_authority() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    rule = IssuedBy(make("CN=a", None, key=key, ca=True).x509)
    assert judged(rule, PARTNER.issue("CN=a", key=key)) is False


def test_presented_authorities_that_are_not_in_the_path_do_not_count() -> None:
    client = OURS.issue("CN=a")
    with_more = IssuedCertificate(client.x509, client.key, (PARTNER.certificate, ISSUING.certificate))
    assert judged(IssuedBy(PARTNER.certificate), with_more) is False
    assert judged(IssuedBy(ISSUING.certificate), with_more) is False


@pytest.mark.parametrize("rule", [IssuedBy(PARTNER.certificate), ~IssuedBy(PARTNER.certificate)])
def test_without_a_validated_path_the_result_is_unknown(rule: Any) -> None:
    client = PARTNER.issue("CN=a")
    assert judged(rule, client, store=None) is None
    assert judged(Presented(IssuedBy(PARTNER.certificate)), client, store=None) is None
    assert judged(rule | DNSName("a"), client, store=None) is None


@both_gateways
@pytest.mark.parametrize(
    "allow",
    [
        IssuedBy(PARTNER.certificate),
        ~IssuedBy(PARTNER.certificate) | DNSName("a"),
        Presented(IssuedBy(PARTNER.certificate)),
        {"/": DNSName("a"), "/partner": IssuedBy(PARTNER.certificate) & DNSName("b"), "/open": ANYONE},
    ],
)
@pytest.mark.parametrize("source", [ServerTLS(), Nginx(trusted_proxies=TRUSTED)])
def test_a_layer_without_a_trust_store_is_an_error_at_construction(gateway: str, allow: Any, source: Any) -> None:
    module = MODULES[gateway]
    with pytest.raises(ConfigurationError, match=r"IssuedBy, which needs a path .* give trust_store="):
        module.ClientCertificateMiddleware(relay(module, []), source, allow=allow)


@both_gateways
def test_a_layer_allows_clients_of_this_authority_only(gateway: str) -> None:
    layers = certificates(ServerTLS(), trust_store=STORE, allow=IssuedBy(PARTNER.certificate) & DNSName("a.test"))
    for authority, dns, expected in (
        (PARTNER, "a.test", 200), (ISSUING, "a.test", 200), (PARTNER, "b.test", 403),
        (NAMESAKE, "a.test", 403), (OURS, "a.test", 403),
    ):  # fmt: skip
        client = authority.issue("CN=a", dns=[dns])
        assert send(gateway, layers, Request(tls=client)).status == expected


@both_gateways
def test_a_cached_decision_ends_when_the_path_ends(gateway: str, tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "roots.pem").write_text(PARTNER.pem + OURS.pem)
    store = TrustStore([tmp_path / "roots.pem"])
    layers = Layers(gateway, certificates(ServerTLS(), trust_store=store, allow=IssuedBy(PARTNER.certificate)))
    client = PARTNER.issue("CN=a")
    for _ in range(3):
        assert layers.send(Request(tls=client)).status == 200
    (tmp_path / "roots.pem").write_text(OURS.pem)
    clock.now += 2
    assert layers.send(Request(tls=client)).status == 403


def test_paths_share_the_bytes_of_their_authorities() -> None:
    first, second = (
        BlockingDriver().run(STORE.validate(ISSUING.issue(f"CN={name}").client_certificate(), NOW)) for name in "ab"
    )
    assert len(first.path) == 3
    assert first.path[0] == first.der
    assert all(mine is yours for mine, yours in zip(first.path[1:], second.path[1:], strict=True))
    assert first.path[-1] == PARTNER.certificate.public_bytes(Encoding.DER)


def test_the_authority_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "partner-ca.pem"
    path.write_text(PARTNER.pem)
    for given in (path, str(path)):
        rule = IssuedBy(given)
        assert judged(rule, PARTNER.issue("CN=a")) is True
        assert repr(rule) == f"IssuedBy({str(path)!r})"


@pytest.mark.parametrize("content", [None, b"", b"junk", PARTNER.pem.encode() * 2, b"-----BEGIN CERTIFICATE-----"])
def test_a_file_without_exactly_one_certificate_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"IssuedBy\("):
        IssuedBy(path)


@pytest.mark.parametrize("given", ["", None, 7, b"ca.pem", [PARTNER.certificate]])
def test_another_argument_is_an_error(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"IssuedBy\("):
        IssuedBy(given)
