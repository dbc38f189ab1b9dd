"""The header sources by their products' names: what each needs said beside its row in the table.

Must never know: how trust is decided, or how a field is judged. That is the same for all of them.
"""

import hashlib
from collections.abc import Collection
from typing import Literal

from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.request import RequestView
from mtls_middleware.sources import vendors, xfcc
from mtls_middleware.sources.header import HeaderSource, given, only
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
    """HAProxy: `X-SSL-Client-Cert: %[ssl_c_der,base64]` and `X-SSL-Client-Verify`, number (`ssl_c_verify`) or word.

    `chain_header="X-SSL-Client-Chain"` reads `%[ssl_c_chain_der,base64]`.

    Example: `HAProxy(trusted_proxies=["unix"], shared_secret=("MtlsProxySecret", secret))`
    """

    dialect: Dialect = vendors.HAPROXY


class Traefik(HeaderSource):
    """Traefik's `passTLSClientCert` with `pem: true`: leaf and chain in `X-Forwarded-Tls-Client-Cert`. No word.

    The chain holds CA certificates alone: another leaf behind the first is refused.

    Example, with `VerifyClientCertIfGiven`:
    `Traefik(trusted_proxies=["10.0.0.0/8"], shared_secret=("MtlsProxySecret", secret), verified_by_proxy=True)`
    """

    dialect: Dialect = vendors.TRAEFIK

    def _certificate(
        self, leaf: bytes, chain: tuple[bytes, ...], chain_value: str, verification: Verification
    ) -> ClientCertificate:
        # Some WSGI servers join two field lines by a comma, as Traefik joins leaf and chain: then the leaf of the
        # second line stands among what would be the chain of the first, which need not be the proxy's.
        if not all(ClientCertificate.from_der(each).is_authority for each in chain):
            raise MalformedCertificate("another leaf behind the first")
        return super()._certificate(leaf, chain, chain_value, verification)


class Caddy(HeaderSource):
    """Caddy: `header_up X-SSL-Client-Cert {tls_client_certificate_der_base64}`, also between colons. No word, no chain.

    Example, with `mode verify_if_given`:
    `Caddy(trusted_proxies=["127.0.0.1"], shared_secret=("MtlsProxySecret", secret), verified_by_proxy=True)`
    """

    dialect: Dialect = vendors.CADDY


class GoogleCloudLoadBalancer(HeaderSource):
    """Google Cloud: custom headers with `{client_cert_leaf}`, `{client_cert_chain}`, `{client_cert_chain_verified}`.

    By default named `X-Client-Cert-Leaf`, `X-Client-Cert-Chain`, `X-Client-Cert-Chain-Verified`. Needs the extra
    `rfc9440`, whose encoding Google uses.

    Example: `GoogleCloudLoadBalancer(trusted_proxies=["35.191.0.0/16"], shared_secret=("X-Origin-Secret", secret))`
    """

    dialect: Dialect = vendors.GOOGLE


class AzureAppService(HeaderSource):
    """Azure App Service: base64 DER in `X-ARR-ClientCert`. Azure never verifies it: always `PRESENTED`.

    Azure cannot add a secret. Example: `AzureAppService(trusted_proxies=["169.254.0.0/16"])` with a `trust_store`.
    """

    dialect: Dialect = vendors.AZURE


class Cloudflare(HeaderSource):
    """Cloudflare: `Cf-Client-Cert-Der-Base64`, `Cf-Client-Cert-Sha256` and the managed transform's `Cf-Cert-Verified`.

    A certificate that `Cf-Cert-Revoked` calls revoked is `PRESENTED`, never verified.

    Example: `Cloudflare(trusted_proxies=["173.245.48.0/20"], shared_secret=("X-Origin-Secret", secret))`
    """

    dialect: Dialect = vendors.CLOUDFLARE
    _further_headers = ("cf-client-cert-sha256", "cf-cert-revoked")

    def find(self, view: RequestView) -> ClientCertificate | None:
        certificate = super().find(view)
        if certificate is None:
            return None
        digest = only(view.headers("cf-client-cert-sha256"), "Cf-Client-Cert-Sha256")
        if digest is not None and digest.lower() != hashlib.sha256(certificate.der).hexdigest():
            raise MalformedCertificate("Cf-Client-Cert-Sha256 belongs to another certificate")
        revoked = only(view.headers("cf-cert-revoked"), "Cf-Cert-Revoked")
        if revoked in (None, "false") or not certificate.verified:
            return certificate
        return certificate.vouched_for(Verification.PRESENTED)


class AWSLoadBalancer(HeaderSource):
    """AWS Application Load Balancer with mutual TLS, in the one mode that is configured there.

    `mode="verify"`: `X-Amzn-Mtls-Clientcert-Leaf`, `BY_PROXY`. `mode="passthrough"`: leaf and chain in
    `X-Amzn-Mtls-Clientcert`, which the load balancer does not check: `PRESENTED`. Each mode reads its own header alone.

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
        if mode not in ("verify", "passthrough"):
            raise ConfigurationError(f"mode={mode!r}: the load balancer's mode is 'verify' or 'passthrough'")
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

    The element must carry `Cert` or `Chain`: identities come from there alone. By default the field holds exactly
    one element (`SANITIZE_SET`); `hops=n` takes the one that stands n before the last (`APPEND_FORWARD` behind a
    gateway). Envoy has no verification word of its own; `verify_header` names the one that a Lua filter adds.
    `certificate_header="..."` reads a field of your own set to `%DOWNSTREAM_PEER_CERT%` instead (the name of XFCC
    itself cannot be changed in Envoy).

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
            certificate_header=given(certificate_header, _XFCC),
            verify_header=verify_header,
            verified_by_proxy=verified_by_proxy,
            proxy_deletes_underscores=proxy_deletes_underscores,
        )
        self._formatter = self._certificate_header != _XFCC
        if hops is not None and (isinstance(hops, bool) or not isinstance(hops, int) or hops < 0 or self._formatter):
            raise ConfigurationError(f"hops={hops!r}: a number of XFCC elements, 0 for the last one")
        self._hops = hops

    def _read(self, value: str, chain_value: str, verification: Verification) -> ClientCertificate | None:
        if self._formatter:
            return super()._read(value, chain_value, verification)
        found = xfcc.client_certificate(value, self._hops)
        return None if found is None else self._certificate(*found, chain_value, verification)
