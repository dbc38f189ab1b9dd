"""Defines the header sources, one class for each product."""

import hashlib
from collections.abc import Collection
from typing import Literal

from mtls_middleware import options
from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.request import RequestView
from mtls_middleware.sources import vendors, xfcc
from mtls_middleware.sources.fields import name_or_default, single_value
from mtls_middleware.sources.header import HeaderSource
from mtls_middleware.sources.source import Absence
from mtls_middleware.sources.trust import ProxyCertificateRule, SharedSecret
from mtls_middleware.sources.vendors import Dialect

_XFCC = "x-forwarded-client-cert"


class ClientCertHeader(HeaderSource):
    """Reads the fields `Client-Cert` and `Client-Cert-Chain` (RFC 9440), from any proxy that sends them.

    Needs the extra `rfc9440`. Example:
    `ClientCertHeader(trusted_proxies=["10.0.0.0/8"], shared_secret=("MtlsProxySecret", secret))`
    """

    dialect: Dialect = vendors.RFC9440


class Nginx(HeaderSource):
    """Reads nginx's `X-SSL-Client-Cert: $ssl_client_escaped_cert` and `X-SSL-Client-Verify: $ssl_client_verify`.

    For ingress-nginx, give `certificate_header="ssl-client-cert", verify_header="ssl-client-verify"`.

    Example: `Nginx(trusted_proxies=["10.0.0.0/8"], shared_secret=("MtlsProxySecret", secret))`
    """

    dialect: Dialect = vendors.NGINX


class Apache(HeaderSource):
    """Reads Apache httpd's `X-SSL-Client-Cert` and `X-SSL-Client-Verify`.

    The value of `X-SSL-Client-Cert` is `%{SSL_CLIENT_CERT}s` or `%{escape:...}`.

    Example: `Apache(trusted_proxies=["127.0.0.1"], shared_secret=("MtlsProxySecret", secret))`
    """

    dialect: Dialect = vendors.APACHE


class HAProxy(HeaderSource):
    """Reads HAProxy's `X-SSL-Client-Cert: %[ssl_c_der,base64]` and `X-SSL-Client-Verify`.

    The value of `X-SSL-Client-Verify` is `ssl_c_verify`, or one of nginx's verification words. With
    `chain_header="X-SSL-Client-Chain"`, the source also reads a chain from `%[ssl_c_chain_der,base64]`.

    Example: `HAProxy(trusted_proxies=["unix"], shared_secret=("MtlsProxySecret", secret))`
    """

    dialect: Dialect = vendors.HAPROXY


class Traefik(HeaderSource):
    """Reads the leaf and the chain in Traefik's `X-Forwarded-Tls-Client-Cert` (`passTLSClientCert` with `pem: true`).

    Traefik sends no verification word. The first certificate of the field is the leaf. If the server may have joined
    two field lines, the chain may contain only CA certificates.

    Example, with `VerifyClientCertIfGiven`:
    `Traefik(trusted_proxies=["10.0.0.0/8"], shared_secret=("MtlsProxySecret", secret), verified_by_proxy=True)`
    """

    dialect: Dialect = vendors.TRAEFIK

    @property
    def single_lines(self) -> frozenset[str]:
        """The names of the fields of which `find` reads whether they have one field line."""
        return frozenset({self._certificate_header})

    def find(self, view: RequestView) -> ClientCertificate | None:
        certificate = super().find(view)
        # A WSGI server joins two field lines with a comma, as Traefik joins leaf and chain. One of the lines may come
        # from an attacker, for example in a smuggled request, and then looks like the leaf or like a part of the chain.
        # In a single line, the first certificate is the leaf, and a second leaf is an unneeded certificate.
        # A `RequestView` of another package may lack the method. Its field then counts as joined.
        has_one_line = getattr(view, "has_one_line", None)
        if certificate is not None and not (has_one_line and has_one_line(self._certificate_header)):
            for value in view.headers(self._certificate_header):
                _require_one_leaf(vendors.TRAEFIK.leaf(value))
        return certificate


def _require_one_leaf(ders: tuple[bytes, ...]) -> None:
    """Raise `MalformedCertificate` if a certificate behind the first one may be the leaf of another client."""
    leaf, *chain = ders
    if any(each != leaf and _is_second_leaf(each) for each in dict.fromkeys(chain)):
        raise MalformedCertificate(
            "the field contains a second leaf, and the server may have joined two field lines; expected one leaf, then "
            "only CA certificates",
            advice="let Traefik send leaf and chain in two fields (mtls-middleware proxy-config traefik "
            "--form rfc9440), use gunicorn or an ASGI server, or remove the second leaf from the client's file",
        )


def _is_second_leaf(der: bytes) -> bool:
    """Return whether this certificate may be the leaf of another client: neither a CA certificate nor a root.

    Roots of X.509 version 1 have no basicConstraints, but the issuer of a root is its subject. A client's certificate
    that Traefik verified has another issuer. If Traefik does not verify, this check is incomplete, because a client can
    also present a CA certificate of its own. The first defence is that Traefik removes this field from the request.
    """
    try:
        certificate = ClientCertificate.from_der(der)
    except MalformedCertificate:
        return False  # an unreadable certificate is dropped from the chain
    if certificate.unreadable:
        return False  # dropped from the chain, too
    try:
        return certificate.subject_name != certificate.issuer_name and not certificate.is_authority
    except MalformedCertificate:
        return True


class Caddy(HeaderSource):
    """Reads Caddy's `X-SSL-Client-Cert`, set by `header_up X-SSL-Client-Cert {tls_client_certificate_der_base64}`.

    The value may also be between colons, as in RFC 9440. Caddy sends no verification word and no chain.

    Example, with `mode verify_if_given`:
    `Caddy(trusted_proxies=["127.0.0.1"], shared_secret=("MtlsProxySecret", secret), verified_by_proxy=True)`
    """

    dialect: Dialect = vendors.CADDY


class GoogleCloudLoadBalancer(HeaderSource):
    """Reads three custom headers of a Google Cloud load balancer.

    `X-Client-Cert-Leaf` contains `{client_cert_leaf}`, `X-Client-Cert-Chain` contains `{client_cert_chain}`, and
    `X-Client-Cert-Chain-Verified` contains `{client_cert_chain_verified}`. Needs the extra `rfc9440`, because Google
    uses the encoding of RFC 9440.

    Example: `GoogleCloudLoadBalancer(trusted_proxies=["35.191.0.0/16"], shared_secret=("X-Origin-Secret", secret))`
    """

    dialect: Dialect = vendors.GOOGLE


class CitrixNetScaler(HeaderSource):
    """Reads PEM without line breaks in Citrix NetScaler's `X-Client-Cert`.

    The name is that of `add ssl action NAME -clientCert ENABLED -certHeader X-Client-Cert`. NetScaler sends no
    verification word.

    Example: `CitrixNetScaler(trusted_proxies=["10.0.0.0/8"], verified_by_proxy=True)`
    """

    dialect: Dialect = vendors.NETSCALER


class CloudFoundry(HeaderSource):
    """Reads base64 DER in `X-Forwarded-Client-Cert` of Cloud Foundry's router (Gorouter), also on SAP BTP.

    The router sends no verification word. With `verify_header="X-SSL-Client-Verify"`, the source reads the number that
    HAProxy in front of the router sends.

    Example, with `router.forwarded_client_cert: sanitize_set`:
    `CloudFoundry(trusted_proxies=["10.0.0.0/8"], verified_by_proxy=True)`
    """

    dialect: Dialect = vendors.CLOUD_FOUNDRY


class AzureApplicationGateway(HeaderSource):
    """Reads two header fields that a rewrite rule of Azure Application Gateway sets.

    `X-Client-Cert` is `{var_client_certificate}`, and `X-Client-Verify` is `{var_client_certificate_verification}`. A
    certificate with the word `PASSTHROUGH` is `PRESENTED`, because Azure has not verified it.

    Example: `AzureApplicationGateway(trusted_proxies=["10.0.1.0/24"], shared_secret=("MtlsProxySecret", secret))`
    """

    dialect: Dialect = vendors.AZURE_GATEWAY


class AzureAppService(HeaderSource):
    """Reads base64 DER in Azure App Service's `X-ARR-ClientCert`.

    Azure does not verify the certificate, so the certificate is always `PRESENTED`: give the layer a `trust_store`.
    Azure cannot add a shared secret. Example: `AzureAppService(trusted_proxies=["169.254.0.0/16"])`
    """

    dialect: Dialect = vendors.AZURE


class Cloudflare(HeaderSource):
    """Reads Cloudflare's `Cf-Client-Cert-Der-Base64`, `Cf-Client-Cert-Sha256` and `Cf-Cert-Verified`.

    A managed transform of Cloudflare adds `Cf-Cert-Verified` and `Cf-Cert-Revoked`. If `Cf-Cert-Revoked` is present and
    is not `false`, the certificate counts as unverified (`PRESENTED`), because it may be revoked.

    Example: `Cloudflare(trusted_proxies=["173.245.48.0/20"], shared_secret=("X-Origin-Secret", secret))`
    """

    dialect: Dialect = vendors.CLOUDFLARE
    _further_headers = ("cf-client-cert-sha256", "cf-cert-revoked")

    def find(self, view: RequestView) -> ClientCertificate | None:
        certificate = super().find(view)
        if certificate is None:
            return None
        digest = single_value(view.headers("cf-client-cert-sha256"), "Cf-Client-Cert-Sha256")
        if digest is not None and digest.lower() != hashlib.sha256(certificate.der).hexdigest():
            raise MalformedCertificate("Cf-Client-Cert-Sha256 does not match the certificate")
        revoked = single_value(view.headers("cf-cert-revoked"), "Cf-Cert-Revoked")
        if revoked in (None, "false") or not certificate.verified:
            return certificate
        return certificate.with_verification(Verification.PRESENTED)


class AWSLoadBalancer(HeaderSource):
    """Reads the certificate header of an AWS Application Load Balancer. `mode` must be the mode of its listener.

    With `mode="verify"`, the source reads the leaf in `X-Amzn-Mtls-Clientcert-Leaf`, and the certificate is `BY_PROXY`.
    With `mode="passthrough"`, the source reads leaf and chain in `X-Amzn-Mtls-Clientcert`, and the certificate is
    `PRESENTED`, because the load balancer does not verify it. The load balancer cannot add a shared secret.

    Example: `AWSLoadBalancer(mode="verify", trusted_proxies=["10.0.0.0/16"])`
    """

    def __init__(
        self,
        *,
        mode: Literal["verify", "passthrough"],
        trusted_proxies: Collection[str] = (),
        shared_secret: SharedSecret | None = None,
        proxy_certificate: ProxyCertificateRule | None = None,
        certificate_header: str | None = None,
        proxy_deletes_underscores: bool = False,
    ) -> None:
        options.one_of("mode", mode, ("verify", "passthrough"))
        self.dialect: Dialect = vendors.AWS_VERIFY if mode == "verify" else vendors.AWS_PASSTHROUGH
        super().__init__(
            trusted_proxies=trusted_proxies,
            shared_secret=shared_secret,
            proxy_certificate=proxy_certificate,
            certificate_header=certificate_header,
            verified_by_proxy=mode == "verify",
            proxy_deletes_underscores=proxy_deletes_underscores,
        )


class Envoy(HeaderSource):
    """Reads `x-forwarded-client-cert` (XFCC) of Envoy, Istio or Contour. Set `set_current_client_cert_details.cert`.

    An element must contain `Cert` or `Chain`. Other keys, such as `URI`, are not used as identities. By default, the
    field must have exactly one element (`SANITIZE_SET`). With `hops=n`, the source reads the element that is n places
    before the last element (`APPEND_FORWARD` behind a gateway). Envoy sends no verification word: `verify_header` is
    the name of a field that a Lua filter adds. With `certificate_header="..."`, the source reads a field that you set
    to `%DOWNSTREAM_PEER_CERT%`, because Envoy cannot rename XFCC.

    Example, with a `trusted_ca`:
    `Envoy(trusted_proxies=["10.0.0.0/8"], shared_secret=("MtlsProxySecret", secret), verified_by_proxy=True)`
    """

    dialect: Dialect = vendors.ENVOY_FORMATTER

    def __init__(
        self,
        *,
        hops: int | None = None,
        trusted_proxies: Collection[str] = (),
        shared_secret: SharedSecret | None = None,
        proxy_certificate: ProxyCertificateRule | None = None,
        certificate_header: str | None = None,
        verify_header: str | None = None,
        verified_by_proxy: bool = False,
        proxy_deletes_underscores: bool = False,
    ) -> None:
        super().__init__(
            trusted_proxies=trusted_proxies,
            shared_secret=shared_secret,
            proxy_certificate=proxy_certificate,
            certificate_header=name_or_default(certificate_header, _XFCC),
            verify_header=verify_header,
            verified_by_proxy=verified_by_proxy,
            proxy_deletes_underscores=proxy_deletes_underscores,
        )
        self._reads_xfcc = self._certificate_header == _XFCC
        if hops is not None and not self._reads_xfcc:
            raise ConfigurationError(f"hops={hops!r}: only x-forwarded-client-cert has elements; expected None")
        if hops is not None and (isinstance(hops, bool) or not isinstance(hops, int) or hops < 0):
            raise ConfigurationError(
                f"hops={hops!r}: expected an integer of at least 0, for example 0 for the last XFCC element"
            )
        self._hops = hops

    def _decode(self, value: str) -> tuple[bytes, ...] | None:
        if not self._reads_xfcc:
            return super()._decode(value)
        found = xfcc.client_certificate(value, self._hops)
        return None if found is None else (found[0], *found[1])

    def _absence_from_proxy(self, present: bool) -> Absence:
        if not present or not self._reads_xfcc:
            return super()._absence_from_proxy(present)
        return Absence(
            "the element of x-forwarded-client-cert has no Cert and no Chain",
            "set `cert: true` in Envoy's set_current_client_cert_details, and SANITIZE_SET; in Istio, use a gateway "
            "that forwards the certificate",
        )
