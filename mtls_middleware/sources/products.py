"""The header sources, one class for each product."""

import hashlib
from collections.abc import Collection
from typing import Literal

from mtls_middleware import options
from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.request import RequestView
from mtls_middleware.sources import vendors, xfcc
from mtls_middleware.sources.header import HeaderSource, name_or_default, single_value
from mtls_middleware.sources.trust import ProxyCertificateRule, SharedSecret
from mtls_middleware.sources.vendors import Dialect

_XFCC = "x-forwarded-client-cert"


class ClientCertHeader(HeaderSource):
    """RFC 9440 `Client-Cert` and `Client-Cert-Chain`, from any proxy that writes them. Needs the extra `rfc9440`.

    Example:
    `ClientCertHeader(trusted_proxies=["10.0.0.0/8"], shared_secret=("MtlsProxySecret", secret))`
    """

    dialect: Dialect = vendors.RFC9440


class Nginx(HeaderSource):
    """nginx: `X-SSL-Client-Cert: $ssl_client_escaped_cert` and `X-SSL-Client-Verify: $ssl_client_verify`.

    ingress-nginx renames them: `certificate_header="ssl-client-cert", verify_header="ssl-client-verify"`.

    Example: `Nginx(trusted_proxies=["10.0.0.0/8"], shared_secret=("MtlsProxySecret", secret))`
    """

    dialect: Dialect = vendors.NGINX


class Apache(HeaderSource):
    """Apache httpd: `X-SSL-Client-Cert` from `%{SSL_CLIENT_CERT}s` or `%{escape:...}`, `X-SSL-Client-Verify`.

    Example: `Apache(trusted_proxies=["127.0.0.1"], shared_secret=("MtlsProxySecret", secret))`
    """

    dialect: Dialect = vendors.APACHE


class HAProxy(HeaderSource):
    """HAProxy: `X-SSL-Client-Cert: %[ssl_c_der,base64]` and `X-SSL-Client-Verify` (`ssl_c_verify`, or a word).

    `chain_header="X-SSL-Client-Chain"` reads `%[ssl_c_chain_der,base64]`.

    Example: `HAProxy(trusted_proxies=["unix"], shared_secret=("MtlsProxySecret", secret))`
    """

    dialect: Dialect = vendors.HAPROXY


class Traefik(HeaderSource):
    """Traefik's `passTLSClientCert` with `pem: true`: leaf and chain in `X-Forwarded-Tls-Client-Cert`.

    Traefik sends no verification word. A chain with a certificate that is not a CA certificate is rejected.

    Example, with `VerifyClientCertIfGiven`:
    `Traefik(trusted_proxies=["10.0.0.0/8"], shared_secret=("MtlsProxySecret", secret), verified_by_proxy=True)`
    """

    dialect: Dialect = vendors.TRAEFIK

    def _load(
        self, leaf: bytes, chain: tuple[bytes, ...], chain_value: str, verification: Verification
    ) -> ClientCertificate:
        # Some WSGI servers join two field lines with a comma, as Traefik joins leaf and chain. One of the lines may be
        # the client's, and the leaf of the second line then looks like a part of the chain.
        if not all(ClientCertificate.from_der(each).is_authority for each in chain):
            raise MalformedCertificate("a second leaf in the field; expected one leaf, then CA certificates")
        return super()._load(leaf, chain, chain_value, verification)


class Caddy(HeaderSource):
    """Caddy: `header_up X-SSL-Client-Cert {tls_client_certificate_der_base64}`, also between colons.

    Caddy sends no verification word and no chain.

    Example, with `mode verify_if_given`:
    `Caddy(trusted_proxies=["127.0.0.1"], shared_secret=("MtlsProxySecret", secret), verified_by_proxy=True)`
    """

    dialect: Dialect = vendors.CADDY


class GoogleCloudLoadBalancer(HeaderSource):
    """Google Cloud: custom headers with `{client_cert_leaf}`, `{client_cert_chain}`, `{client_cert_chain_verified}`.

    Default names: `X-Client-Cert-Leaf`, `X-Client-Cert-Chain`, `X-Client-Cert-Chain-Verified`. Needs the extra
    `rfc9440`, because Google uses the encoding of RFC 9440.

    Example: `GoogleCloudLoadBalancer(trusted_proxies=["35.191.0.0/16"], shared_secret=("X-Origin-Secret", secret))`
    """

    dialect: Dialect = vendors.GOOGLE


class AzureAppService(HeaderSource):
    """Azure App Service: base64 DER in `X-ARR-ClientCert`. Azure does not verify it, so it is always `PRESENTED`.

    Azure cannot add a secret. Example: `AzureAppService(trusted_proxies=["169.254.0.0/16"])` with a `trust_store`.
    """

    dialect: Dialect = vendors.AZURE


class Cloudflare(HeaderSource):
    """Cloudflare: `Cf-Client-Cert-Der-Base64`, `Cf-Client-Cert-Sha256` and the managed transform's `Cf-Cert-Verified`.

    A certificate is `PRESENTED` if `Cf-Cert-Revoked` is present and is not `false`.

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
    """AWS Application Load Balancer with mutual TLS. `mode` must be the mode of the load balancer's listener.

    `mode="verify"`: the leaf in `X-Amzn-Mtls-Clientcert-Leaf`, `BY_PROXY`. `mode="passthrough"`: leaf and chain in
    `X-Amzn-Mtls-Clientcert`, `PRESENTED`, because the load balancer does not verify them. Each mode reads only its own
    header.

    The load balancer cannot add a secret. Example: `AWSLoadBalancer(mode="verify", trusted_proxies=["10.0.0.0/16"])`
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
    """Envoy, Istio, Contour: `x-forwarded-client-cert` with `set_current_client_cert_details: {cert: true}`.

    The element must contain `Cert` or `Chain`. Other keys, such as `URI`, are not used as identities. By default, the
    field must have exactly one element (`SANITIZE_SET`). `hops=n` reads the element n places before the last one
    (`APPEND_FORWARD` behind a gateway). Envoy has no verification word; `verify_header` is the name of a field that a
    Lua filter adds. `certificate_header="..."` reads a field that you set to `%DOWNSTREAM_PEER_CERT%` instead: Envoy
    cannot rename XFCC itself.

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
                f"hops={hops!r}: expected a number of XFCC elements, for example 0 for the last one"
            )
        self._hops = hops

    def _decode(self, value: str, chain_value: str, verification: Verification) -> ClientCertificate | None:
        if not self._reads_xfcc:
            return super()._decode(value, chain_value, verification)
        leaf_and_chain = xfcc.client_certificate(value, self._hops)
        return None if leaf_and_chain is None else self._load(*leaf_and_chain, chain_value, verification)
