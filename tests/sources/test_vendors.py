"""Each vendor's fields and encodings."""

import base64
from urllib.parse import quote

import pytest

from mtls_middleware.sources import Caddy, HAProxy, Nginx, Traefik
from mtls_middleware.sources.vendors import KNOWN_HEADERS
from mtls_middleware.testing import IssuedCertificate
from tests.sources.requests import GATEWAYS, STRANGER, TRUST, through_asgi, through_wsgi
from tests.sources.vendor_fields import CERT, WORD, Through, base64_der


@pytest.mark.case("003")
@pytest.mark.parametrize("gateway", GATEWAYS.values(), ids=GATEWAYS)
def test_known_fields_from_an_untrusted_peer_reach_no_application(
    gateway: Through, mtls_client: IssuedCertificate
) -> None:
    values = (quote(mtls_client.pem), base64_der(mtls_client), mtls_client.as_client_cert()["Client-Cert"], "SUCCESS")
    for name_of in (str, str.upper, lambda name: name.replace("-", "_")):
        headers = [(name_of(name), value) for value in values for name in sorted(KNOWN_HEADERS)]
        outcome = gateway(Nginx(**TRUST), headers, peer=STRANGER)
        assert (outcome.status, outcome.certificate, outcome.names) == (200, None, frozenset())
        assert gateway(Nginx(**TRUST), headers, peer=STRANGER, required=True).status == 403


@pytest.mark.standard("K8")
@pytest.mark.case("058")
def test_only_the_configured_field_is_read(mtls_client: IssuedCertificate, through: Through) -> None:
    """No fallback: every other vendor's field is there, and is removed unread."""
    own = "X-Our-Cert"
    others = [(name, quote(mtls_client.pem)) for name in sorted(KNOWN_HEADERS)]
    source = Nginx(certificate_header=own, verify_header="X-Our-Word", **TRUST)
    outcome = through(source, [*others, ("X-Our-Word", "NONE")])
    assert (outcome.status, outcome.certificate, outcome.names) == (200, None, frozenset())
    found = through(source, [*others, (own, quote(mtls_client.pem)), ("X-Our-Word", "SUCCESS")])
    assert (found.thumbprint, found.names) == (mtls_client.thumbprint, frozenset())


def test_ingress_nginx_has_its_own_names(mtls_client: IssuedCertificate, through: Through) -> None:
    source = Nginx(certificate_header="ssl-client-cert", verify_header="ssl-client-verify", **TRUST)
    headers = [("ssl-client-cert", quote(mtls_client.pem)), ("ssl-client-verify", "SUCCESS")]
    outcome = through(source, headers, required=True)
    assert (outcome.thumbprint, outcome.names) == (mtls_client.thumbprint, frozenset())


@pytest.mark.case("057")
def test_traefiks_list_is_leaf_and_chain(
    mtls_chained: IssuedCertificate, mtls_client: IssuedCertificate, through: Through
) -> None:
    field = "X-Forwarded-Tls-Client-Cert"
    above = mtls_chained.client_certificate().chain
    value = ",".join([base64_der(mtls_chained), *(base64.b64encode(each).decode("ascii") for each in above)])
    outcome = through(Traefik(**TRUST), [(field, value)])
    assert outcome.certificate is not None
    assert (outcome.certificate.der, outcome.certificate.chain) == (mtls_chained.der, above)
    # Two lines: told apart by ASGI, and by a blank where a WSGI server joins them so.
    lines = [(field, base64_der(mtls_client)), (field, value)]
    assert (
        through_asgi(Traefik(**TRUST), lines).status == through_wsgi(Traefik(**TRUST), lines, joint=", ").status == 400
    )
    # Not told apart where the server puts a mere comma between, but a leaf in the chain says so.
    for joined in (lines, lines[::-1]):
        assert through_wsgi(Traefik(**TRUST), joined, joint=",").status == 400
    for bad in ("," + value, value + ",", value.replace(",", ";")):
        assert through(Traefik(**TRUST), [(field, bad)]).status == 400


def test_caddys_value_may_stand_between_colons(mtls_client: IssuedCertificate, through: Through) -> None:
    value = base64_der(mtls_client)
    for written in (value, f":{value}:"):
        assert through(Caddy(**TRUST), [(CERT, written)]).thumbprint == mtls_client.thumbprint
    for broken in (f":{value}", f"{value}:", f"::{value}::", ":", ":::"):
        assert through(Caddy(**TRUST), [(CERT, broken)]).status == 400
    for nothing in ("", "::"):
        assert through(Caddy(**TRUST), [(CERT, nothing)]).certificate is None


def test_haproxys_chain_is_joined_der(mtls_chained: IssuedCertificate, through: Through) -> None:
    source = HAProxy(chain_header="X-SSL-Client-Chain", **TRUST)
    above = mtls_chained.client_certificate().chain
    headers = [(CERT, base64_der(mtls_chained)), (WORD, "0")]
    chain = ("X-SSL-Client-Chain", base64.b64encode(b"".join(above)).decode("ascii"))
    outcome = through(source, [*headers, chain])
    assert outcome.certificate is not None
    assert outcome.certificate.chain == above
    assert through(source, [*headers, ("X-SSL-Client-Chain", "x")]).status == 400  # no base64
