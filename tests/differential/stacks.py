"""Makes the layers around an application from drawn options. It uses the public interface alone."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from mtls_middleware import asgi, policy, sources, wsgi
from mtls_middleware.resource_server import (
    IntrospectedAccessTokens,
    JWTAccessTokens,
    MemoryAnswers,
    TrustedIssuers,
)
from mtls_middleware.token_endpoint import ClientAuthenticator, RegisteredClient
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.differential.environment import INTROSPECTION_AT, KEYS_AT, Outside
from tests.differential.header_forms import OLD_SECRET, SECRET, SECRET_NAME
from tests.differential.material import AUDIENCE, INTROSPECTING, ISSUER, OTHER_ISSUER
from tests.differential.requests import METADATA_PATH, Options
from tests.differential.users import (
    TRUST,
    UsersJWT,
    UsersNginx,
    UsersSource,
    UsersStore,
    UsersTLS,
    UsersTokens,
    dispatcher,
    fixed_roots,
    relay,
)

try:
    from mtls_middleware.revocation import RevocableTokens
except ImportError:  # of an older commit
    from mtls_middleware.resource_server import RevocableTokens

MODULES: dict[str, ModuleType] = {"wsgi": wsgi, "asgi": asgi}
CLIENT = policy.Subject("CN=client,O=Tests")
_SECRET: dict[str, Any] = {"shared_secret": (SECRET_NAME, [SECRET, OLD_SECRET])}
_DOCUMENT = {"resource": "https://api.test", "authorization_servers": [ISSUER], "scopes_supported": ["read"]}


SOURCES: dict[str, Callable[[], Any]] = {
    "nginx": lambda: sources.Nginx(**TRUST),
    "nginx secret": lambda: sources.Nginx(**TRUST, **_SECRET),
    "nginx secrets alone": lambda: sources.Nginx(**_SECRET),
    "nginx unix": lambda: sources.Nginx(trusted_proxies=["unix"]),
    "plain": lambda: sources.Nginx(
        certificate_header="MtlsClientCert", verify_header="MtlsClientVerify", **TRUST, **_SECRET
    ),
    "own": lambda: sources.Nginx(certificate_header="X-Own", verify_header="X-Own-Verify", **TRUST),
    "haproxy": lambda: sources.HAProxy(chain_header="X-SSL-Client-Chain", **TRUST),
    "rfc9440": lambda: sources.ClientCertHeader(verified_by_proxy=True, **TRUST),
    "rfc9440 secret": lambda: sources.ClientCertHeader(verified_by_proxy=True, **TRUST, **_SECRET),
    "rfc9440 presented": lambda: sources.ClientCertHeader(**TRUST),
    "envoy": lambda: sources.Envoy(verified_by_proxy=True, **TRUST),
    "envoy secret": lambda: sources.Envoy(verified_by_proxy=True, **TRUST, **_SECRET),
    "envoy hops": lambda: sources.Envoy(hops=1, verified_by_proxy=True, **TRUST),
    "cloudflare": lambda: sources.Cloudflare(**TRUST),
    "cloudflare secret": lambda: sources.Cloudflare(**TRUST, **_SECRET),
    "google": lambda: sources.GoogleCloudLoadBalancer(**TRUST),
    "azure": lambda: sources.AzureAppService(**TRUST),
    "aws": lambda: sources.AWSLoadBalancer(mode="verify", **TRUST),
    "aws passthrough": lambda: sources.AWSLoadBalancer(mode="passthrough", **TRUST),
    "traefik": lambda: sources.Traefik(verified_by_proxy=True, **TRUST),
    "caddy": lambda: sources.Caddy(verified_by_proxy=True, **TRUST, **_SECRET),
    "tls": sources.ServerTLS,
    "tls again": sources.ServerTLS,
    "proxy certificate": lambda: sources.Nginx(proxy_certificate=policy.Subject("CN=proxy,O=Tests")),
    "proxy certificate secret": lambda: sources.Nginx(
        proxy_certificate=policy.Subject("CN=proxy,O=Tests"), **TRUST, **_SECRET
    ),
    "user's source": UsersSource,
    "user's nginx": lambda: UsersNginx(**TRUST),
    "user's tls": UsersTLS,
}


class Builder:
    """Builds the stacks of one scenario. Each call of `stack` makes all parts new."""

    def __init__(self, options: Options, outside: Outside) -> None:
        self._options, self._outside = options, outside
        self.answers: list[MemoryAnswers] = []

    def stack(self, gateway: str, app: Any) -> Any:
        """The layers around `app`. Raises `ConfigurationError` if the options do not fit together."""
        module = MODULES[gateway]
        first, second = self._options["certificates"]
        tokens, more_tokens = self._options["tokens"]

        def certificate(app: Any, options: Options = first) -> Any:
            return self._certificate(module, app, options)

        def token(app: Any, options: Options = tokens) -> Any:
            return self._token(module, app, options)

        def client(app: Any) -> Any:
            return self._client(module, app)

        def apart(app: Any) -> Any:
            return relay(gateway, app)

        shapes: dict[str, Callable[[], Any]] = {
            "certificate": lambda: certificate(app),
            "protect": lambda: self._protected(module, app, first, tokens),
            "fused": lambda: certificate(token(app)),
            "nested": lambda: certificate(apart(token(app))),
            "tokens nested": lambda: certificate(token(apart(token(app, more_tokens)))),
            "two": lambda: certificate(certificate(token(app), second)),
            "two nested": lambda: certificate(apart(certificate(app, second))),
            "dispatched": lambda: certificate(dispatcher(gateway, [token(app), certificate(app, second)])),
            "client": lambda: certificate(client(app)),
            "client nested": lambda: certificate(apart(client(apart(token(app, {**tokens, "exempt": ["/token"]}))))),
            "wrong order": lambda: token(certificate(app)),
        }
        return shapes[self._options["shape"]]()

    def _protected(self, module: ModuleType, app: Any, options: Options, tokens: Options) -> Any:
        given = self._of_certificate(options)
        given.pop("required", None)
        metadata = self._metadata(tokens)
        return module.protect(
            app, tokens=self._tokens(tokens["tokens"]), scopes=tokens["scopes"], resource_metadata=metadata, **given
        )

    def _certificate(self, module: ModuleType, app: Any, options: Options) -> Any:
        given = self._of_certificate(options)
        if options["exempts_metadata"]:
            given["exempt"] = [*given["exempt"], METADATA_PATH]
        return module.ClientCertificateMiddleware(app, **given)

    def _token(self, module: ModuleType, app: Any, options: Options) -> Any:
        given = {**options, "tokens": self._tokens(options["tokens"]), "resource_metadata": self._metadata(options)}
        return module.CertificateBoundTokenMiddleware(app, **given)

    def _client(self, module: ModuleType, app: Any) -> Any:
        method = "tls_client_auth"
        clients = [
            RegisteredClient(client_id="billing", token_endpoint_auth_method=method,
                             tls_client_auth_subject_dn="CN=client,O=Tests"),
            RegisteredClient(client_id="other", token_endpoint_auth_method=method,
                             tls_client_auth_san_dns="other.example.test"),
            RegisteredClient(client_id="plain", token_endpoint_auth_method="none"),
        ]  # fmt: skip
        authenticator = ClientAuthenticator({each.client_id: each for each in clients})
        return module.ClientAuthenticationMiddleware(app, authenticator)

    def _of_certificate(self, options: Options) -> Options:
        given = {**options, "source": SOURCES[options["source"]]()}
        del given["exempts_metadata"]
        if "trust_store" in given:
            given["trust_store"] = self._store(given["trust_store"])
        if isinstance(given.get("allow"), dict):
            given["allow"] = {path: self._rule(name) for path, name in given["allow"].items()}
        elif "allow" in given:
            given["allow"] = self._rule(given["allow"])
        return given

    @staticmethod
    def _metadata(options: Options) -> Any:
        return {None: None, "address": "https://api.test/metadata", "document": _DOCUMENT}[options["resource_metadata"]]

    def _store(self, name: str) -> Any:
        outside = self._outside
        if name == "memory":
            return TrustStore.from_pem_file(fixed_roots(outside))
        if name == "file":
            return TrustStore([outside.roots])
        if name == "user's store":
            return UsersStore(outside)
        lists = RevocationLists([outside.lists], soft_fail="soft" in name, leaf_only="soft" in name)
        return TrustStore([outside.roots], revocation=lists)

    def _rule(self, name: str) -> Any:
        outside = self._outside

        def flipping(_: Any) -> bool:
            return not outside.flipped

        class FlippingSubject(policy.Subject):
            def matches(self, certificate: Any) -> bool:
                return not outside.flipped and super().matches(certificate)

        not_revoked = outside.revocations.not_revoked
        thumbprint = policy.Thumbprint(outside.material["people"][0]["thumbprint"])
        rules: dict[str, Callable[[], Any]] = {
            "client": lambda: CLIENT,
            "not client": lambda: ~CLIENT,
            "presented client": lambda: policy.Presented(CLIENT),
            "thumbprint": lambda: thumbprint,
            "dns": lambda: policy.DNSName("client.example.test") | policy.DNSName("other.example.test"),
            "spiffe": lambda: policy.SpiffeTrustDomain("example.test"),
            "issuer": lambda: policy.Issuer("CN=Test Client CA,O=Tests"),
            "flipping": lambda: flipping,
            "client and flip": lambda: CLIENT & flipping,
            "thumbprint or flip": lambda: thumbprint | flipping,
            "flipping subject": lambda: FlippingSubject("CN=client,O=Tests"),
            "not revoked": lambda: not_revoked,
            "client and not revoked": lambda: CLIENT & not_revoked,
            "anyone": lambda: policy.ANYONE,
        }
        return rules[name]()

    def _tokens(self, name: str) -> Any:
        outside, jwt = self._outside, {"issuer": ISSUER, "audience": AUDIENCE}
        static = {**jwt, "jwks": outside.material["keys"]["both"]}
        others = {"issuer": OTHER_ISSUER, "audience": AUDIENCE, "jwks": outside.material["other keys"]}

        def issuers() -> Any:
            fetched = JWTAccessTokens(jwks_uri=KEYS_AT, **jwt)
            return TrustedIssuers([fetched, JWTAccessTokens(**others), self._introspected(remembers=True)])

        validators: dict[str, Callable[[], Any]] = {
            "static": lambda: JWTAccessTokens(**static),
            "fetched": lambda: JWTAccessTokens(jwks_uri=KEYS_AT, **jwt),
            "discovered": lambda: JWTAccessTokens(discovery="rfc8414", **jwt),
            "fapi2": lambda: JWTAccessTokens(profile="fapi2", **static),
            "introspected": lambda: self._introspected(remembers=True),
            "introspected each time": lambda: self._introspected(remembers=False),
            "issuers": issuers,
            "revocable": lambda: RevocableTokens(JWTAccessTokens(**static), outside.revocations),
            "revocable introspected": lambda: RevocableTokens(
                self._introspected(remembers=True), outside.revocations, ids="when_present"
            ),
            "user's tokens": lambda: UsersTokens(JWTAccessTokens(**static), outside),
            "user's jwt": lambda: UsersJWT(outside, **static),
        }
        return validators[name]()

    def _introspected(self, *, remembers: bool) -> IntrospectedAccessTokens:
        cache = MemoryAnswers() if remembers else None
        if cache is not None:
            self.answers.append(cache)
        return IntrospectedAccessTokens(
            endpoint=INTROSPECTION_AT,
            client_id="api",
            client_secret="a secret of the api",
            issuer=INTROSPECTING,
            audience=AUDIENCE,
            cache=cache,
        )
