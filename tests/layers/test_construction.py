"""What a layer refuses when it is put together: wrong options, and demands that its source can never meet."""

import re
from typing import Any

import pytest

from mtls_middleware import ConfigurationError, Verification, asgi, wsgi
from mtls_middleware.policy import Presented, Subject, Thumbprint
from mtls_middleware.sources import AWSLoadBalancer, Nginx, ServerTLS, Traefik
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import MODULES, both_gateways, send
from tests.ids import shown
from tests.layers.world import CLIENT, TRUSTED, behind_nginx, nested

CERTIFICATE_LAYER: list[tuple[dict[str, Any], str]] = [
    ({"source": None}, "is not a source"),
    ({"source": ServerTLS}, "is not a source"),
    ({"source": "nginx"}, "is not a source"),
    ({"required": "yes"}, "required='yes'"),
    ({"exempt": "/health"}, "a list of strings"),
    ({"exempt": b"/health"}, "a list of strings"),
    ({"exempt": [b"/health"]}, "a list of strings"),
    ({"exempt": iter(["/health"])}, "a list of strings"),
    ({"trust_store": "roots.pem"}, "for example TrustStore"),
    ({"allow": "CN=x"}, "is not a rule"),
    ({"allow": True}, "is not a rule"),
    ({"allow": Subject}, "is not a rule"),
]


@pytest.mark.parametrize("module", MODULES.values())
@pytest.mark.parametrize(("options", "words"), CERTIFICATE_LAYER)
def test_certificate_layer_put_together_wrongly(module: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        module.ClientCertificateMiddleware(lambda *_: None, **{"source": ServerTLS(), **options})


TOKEN_LAYER: list[tuple[dict[str, Any], str]] = [
    ({"tokens": None}, "tokens=None"),
    ({"tokens": "https://issuer.test"}, "tokens="),
    ({"binding": "optional"}, "'required' or 'when_present'"),
    ({"binding": None}, "'required' or 'when_present'"),
    ({"scopes": "read"}, "a list of strings"),
    ({"scopes": [1]}, "a list of strings"),
    ({"scopes": (each for each in ["read"])}, "a list of strings"),
    ({"scopes": ["read write"]}, "expected printable ASCII without spaces"),
    ({"scopes": [""]}, "expected printable ASCII without spaces"),
    ({"scopes": ['a"b']}, "expected printable ASCII without spaces"),
    ({"exempt": "/health"}, "a list of strings"),
    ({"realm": ""}, "realm=''"),
    ({"realm": 'a"b'}, "printable ASCII"),
    ({"realm": "a\r\nb"}, "printable ASCII"),
    ({"realm": "größe"}, "printable ASCII"),
    ({"resource_metadata": "http://api.test"}, "an https address"),
    ({"resource_metadata": 'https://api.test/"'}, "an https address"),
    ({"resource_metadata": 7}, "an https address"),
]


@pytest.mark.parametrize("module", MODULES.values())
@pytest.mark.parametrize(("options", "words"), TOKEN_LAYER)
def test_token_layer_put_together_wrongly(
    module: Any, options: dict[str, Any], words: str, mtls_issuer: TokenIssuer
) -> None:
    options = {"tokens": mtls_issuer.access_tokens(), **options}
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        module.CertificateBoundTokenMiddleware(lambda *_: None, **options)


@pytest.mark.parametrize("module", MODULES.values())
def test_what_is_wrapped_must_be_an_application(module: Any, mtls_issuer: TokenIssuer) -> None:
    with pytest.raises(ConfigurationError, match="is no"):
        module.ClientCertificateMiddleware(None, ServerTLS())
    with pytest.raises(ConfigurationError, match="is no"):
        module.CertificateBoundTokenMiddleware(None, mtls_issuer.access_tokens())


@pytest.mark.parametrize("module", MODULES.values())
def test_protect_refuses_scopes_that_nothing_would_read(module: Any) -> None:
    with pytest.raises(ConfigurationError, match="without tokens="):
        module.protect(lambda *_: None, source=ServerTLS(), scopes=["read"])


def test_both_gateways_export_the_same_layers() -> None:
    for name in ("ClientCertificateMiddleware", "CertificateBoundTokenMiddleware", "protect"):
        assert callable(getattr(wsgi, name))
        assert callable(getattr(asgi, name))


PRINT = Thumbprint("A" * 43)
WITHOUT_WORD = {
    "required": {"required": True},
    "identity rule": {"allow": CLIENT},
    "identity rule, optional": {"allow": CLIENT, "required": False},
    "callable": {"allow": lambda certificate: True},
    "and": {"allow": PRINT & CLIENT},
    "not": {"allow": ~CLIENT},
}
SILENT = [
    Traefik(trusted_proxies=TRUSTED),
    AWSLoadBalancer(mode="passthrough", trusted_proxies=TRUSTED),
    Nginx(trusted_proxies=TRUSTED, verify_header=False),
]


@pytest.mark.parametrize("module", MODULES.values())
@pytest.mark.parametrize("source", SILENT, ids=shown)
@pytest.mark.parametrize("name", WITHOUT_WORD)
@pytest.mark.case("029")
def test_a_source_that_never_verifies_rejects_required_verification(module: Any, source: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match="needs a verified certificate"):
        module.ClientCertificateMiddleware(lambda *_: None, source, **WITHOUT_WORD[name])


@both_gateways
@pytest.mark.parametrize("allow", [PRINT | CLIENT, Presented(lambda _: True), ~(PRINT & CLIENT), None])
@pytest.mark.case("029")
def test_source_that_never_verifies_gives_what_is_presented(
    gateway: str, allow: Any, mtls_client: IssuedCertificate
) -> None:
    source = Nginx(trusted_proxies=TRUSTED, verify_header=False)
    wrap = nested({"source": source, "allow": allow, "required": False})
    seen = send(gateway, wrap, behind_nginx(mtls_client))
    if allow is not None and not allow.holds(mtls_client.client_certificate(Verification.PRESENTED)):
        assert seen.status == 403
    else:
        assert seen.application.certificate is not None
        assert seen.application.certificate.verification is Verification.PRESENTED
