"""How header sources are put together, and what is refused at once rather than at the first request."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import pytest

from mtls_middleware import ConfigurationError, asgi, errors, wsgi
from mtls_middleware.policy import Presented, Subject, Thumbprint
from mtls_middleware.sources import (
    Apache,
    AWSLoadBalancer,
    AzureAppService,
    Caddy,
    ClientCertHeader,
    Cloudflare,
    Envoy,
    GoogleCloudLoadBalancer,
    HAProxy,
    HeaderSource,
    Nginx,
    ServerTLS,
    Traefik,
)
from mtls_middleware.testing import IssuedCertificate
from tests.gateways import Outcome
from tests.ids import shown
from tests.sources.requests import TRUST, view

Make = type[HeaderSource]

WORDED = (Nginx, Apache, HAProxy, GoogleCloudLoadBalancer, Cloudflare)
WORDLESS = (ClientCertHeader, Envoy, Traefik, Caddy)
STRUCTURED = (ClientCertHeader, GoogleCloudLoadBalancer)
EVERY = (*WORDED, *WORDLESS, AzureAppService)

names = {"ids": lambda make: make.__name__}


def layers(source: Any, **options: Any) -> None:
    """Both gateways' layers around nothing."""
    for gateway in (wsgi, asgi):
        gateway.ClientCertificateMiddleware(lambda *_: [], source, **options)


# ---- names


@pytest.mark.parametrize("option", ["certificate_header", "verify_header"])
@pytest.mark.parametrize(
    "name",
    ["", " ", "X SSL", "X_SSL_Client_Cert", "X-SSL:", "X-S\u00ebl", "X-SSL\n", "-", "HTTP/1.1", 5, b"X-SSL", True, []],
    ids=shown,
)
def test_an_invalid_header_name_is_rejected(option: str, name: Any) -> None:
    """An empty text too, say of an unset variable: it would silently mean the default, or no word at all."""
    with pytest.raises(ConfigurationError, match="is not a valid header name"):
        Nginx(**{option: name}, **TRUST)


def test_a_chain_field_is_named_only_where_there_is_one() -> None:
    for make in (Nginx, Apache, Traefik, Caddy, AzureAppService, Cloudflare):
        with pytest.raises(ConfigurationError, match=r"chain_header='X-Chain': .* sends no chain"):
            make(chain_header="X-Chain", **TRUST)
    with pytest.raises(ConfigurationError, match="is not a valid header name"):
        HAProxy(chain_header="", **TRUST)
    assert HAProxy(chain_header="X-Chain", **TRUST).drop_headers >= {"x-chain"}


@pytest.mark.parametrize("make", EVERY, **names)
def test_renamed_fields_are_removed_too(make: Make) -> None:
    secret = ("X-Our-Secret", "correct horse battery staple")
    source = make(certificate_header="X-Our-Cert", shared_secret=secret)
    assert source.drop_headers >= {"x-our-cert", "x-our-secret"}
    assert source.vary == "x-our-cert"
    assert repr(source) == f"{make.__name__}(certificate_header='x-our-cert')"
    assert secret[1] not in repr(source)


def test_spellings_of_a_renamed_field_do_not_reach_the_application(
    mtls_client: IssuedCertificate, through: Callable[..., Outcome]
) -> None:
    source = Nginx(certificate_header="X-Our-Cert", verify_header="X-Our-Word", **TRUST)
    headers = [("X-Our-Word", "NONE"), ("X_Our-Cert", ""), ("x-ssl-client-cert", "x"), ("X-Other", "kept")]
    assert through(source, headers).names == {"x-other"}


# ---- who verified


@pytest.mark.parametrize("make", WORDED, **names)
def test_a_vendor_with_a_word_is_not_taken_on_trust(make: Make) -> None:
    assert make(**TRUST).can_verify
    with pytest.raises(ConfigurationError, match="sends a verification word in"):
        make(verify_header="X-Word", verified_by_proxy=True, **TRUST)


@pytest.mark.parametrize("make", [*WORDLESS, AzureAppService], **names)
def test_a_vendor_without_a_word_verifies_only_where_it_is_said(make: Make) -> None:
    assert not make(**TRUST).can_verify
    if make is AzureAppService:
        with pytest.raises(ConfigurationError, match="Azure App Service never verifies certificates"):
            make(verified_by_proxy=True, **TRUST)
    else:
        assert make(verified_by_proxy=True, **TRUST).can_verify
        assert make(verify_header="X-Word", **TRUST).can_verify


@pytest.mark.parametrize("given", ["false", "", 1, 0, None], ids=shown)
def test_verified_by_proxy_is_true_or_false(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="verified_by_proxy="):
        Caddy(verified_by_proxy=given, **TRUST)


def test_a_word_that_the_proxy_does_not_send_can_be_left_out(mtls_client: IssuedCertificate) -> None:
    headers = [("X-SSL-Client-Cert", mtls_client.as_nginx()["X-SSL-Client-Cert"])]
    for options, verified in (({"verify_header": False}, False), ({"verified_by_proxy": True}, True)):
        source = Nginx(**options, **TRUST)
        certificate = source.find(view(headers))
        assert certificate is not None
        assert (source.can_verify, certificate.verified) == (verified, verified)


@pytest.mark.case("029")
@pytest.mark.parametrize(
    "source",
    [*(make(**TRUST) for make in WORDLESS), AzureAppService(**TRUST), AWSLoadBalancer(mode="passthrough", **TRUST)],
    ids=shown,
)
def test_a_layer_that_could_never_accept_a_client_is_rejected(source: HeaderSource) -> None:
    """Merely presented certificates, and a demand for more without a trust store."""

    class TrustStore:
        def validate(self, certificate: Any, now: float) -> Any: ...

    demands: list[Mapping[str, Any]] = [{"required": True}, {"allow": Subject("CN=a")}, {"allow": lambda each: True}]
    for demand in demands:
        with pytest.raises(ConfigurationError, match="needs a verified certificate"):
            layers(source, **demand)
        layers(source, trust_store=TrustStore(), **demand)
    for rule in (Thumbprint("A" * 43), Presented(lambda each: True), Thumbprint("A" * 43) | Subject("CN=a")):
        layers(source, allow=rule)
    layers(source)


def test_a_source_of_verified_certificates_may_be_required() -> None:
    for source in (
        Nginx(**TRUST),
        ServerTLS(),
        AWSLoadBalancer(mode="verify", **TRUST),
        Caddy(verified_by_proxy=True, **TRUST),
    ):
        layers(source, required=True, allow=Subject("CN=a"))


@pytest.mark.parametrize("source", [Nginx, ServerTLS, None, "nginx", object()], ids=shown)
def test_an_invalid_source_is_rejected(source: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not a source; expected"):
        layers(source)


@pytest.mark.parametrize("mode", ["Verify", "off", "", None, True], ids=shown)
def test_aws_states_its_mode(mode: Any) -> None:
    with pytest.raises(ConfigurationError, match="'verify' or 'passthrough'"):
        AWSLoadBalancer(mode=mode, **TRUST)
    with pytest.raises(TypeError):
        AWSLoadBalancer(**TRUST)


@pytest.mark.parametrize("make", STRUCTURED, **names)
def test_structured_fields_are_an_extra_that_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == "http_sf" else find_spec(name))
    with pytest.raises(ConfigurationError, match=r"pip install 'mtls-middleware\[rfc9440\]'"):
        make(**TRUST)
    assert Nginx(**TRUST)


def test_options_are_given_by_name() -> None:
    for make in EVERY:
        with pytest.raises(TypeError):
            make(["10.0.0.0/8"])
        with pytest.raises(TypeError):
            make(trusted_proxy=["10.0.0.0/8"])


# ---- what is remembered


def test_an_equal_value_is_parsed_once(mtls_client: IssuedCertificate) -> None:
    source = Nginx(**TRUST)
    fields = list(mtls_client.as_nginx().items())
    assert source.find(view(fields)) is source.find(view(fields))


def test_memory_stays_flat_under_endless_certificates(mtls_client: IssuedCertificate) -> None:
    """8 MiB of values, and none larger than 16 KiB."""
    source = Nginx(**TRUST)
    (field, value), (word, _) = mtls_client.as_nginx().items()
    for number in range(3_000):
        assert source.find(view([(field, value + "%0A" * number), (word, "SUCCESS")])) is not None
    assert source._certificates.memory.size <= 8 * 1024 * 1024
    assert 500 < len(source._certificates) < 3_000
    held = len(source._certificates)
    assert source.find(view([(field, value + "%0A" * 8_000), (word, "SUCCESS")])) is not None
    assert len(source._certificates) == held
