"""Makes the layers around an application from drawn options. It uses the public interface alone."""

import asyncio
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
from tests.differential.drawn import METADATA_PATH, Options
from tests.differential.material import AUDIENCE, INTROSPECTING, ISSUER, OTHER_ISSUER
from tests.differential.outside import INTROSPECTION_AT, KEYS_AT, Outside
from tests.differential.written import OLD_SECRET, SECRET, SECRET_NAME

try:
    from mtls_middleware.revocation import RevocableTokens
except ImportError:  # of an older commit
    from mtls_middleware.resource_server import RevocableTokens

MODULES: dict[str, ModuleType] = {"wsgi": wsgi, "asgi": asgi}
CLIENT = policy.Subject("CN=client,O=Tests")
_TRUST: dict[str, Any] = {"trusted_proxies": ["10.0.0.0/8"]}
_SECRET: dict[str, Any] = {"shared_secret": (SECRET_NAME, [SECRET, OLD_SECRET])}
_DOCUMENT = {"resource": "https://api.test", "authorization_servers": [ISSUER], "scopes_supported": ["read"]}


class UsersNginx(sources.Nginx):
    """A subclass that reads a field which its base does not."""

    def find(self, view: Any) -> Any:
        return None if "strict" in view.headers("x-mode") else super().find(view)


class UsersTLS(sources.ServerTLS):
    """The same over the server's own TLS."""

    def find(self, view: Any) -> Any:
        return None if "strict" in view.headers("x-mode") else super().find(view)


class UsersSource:
    """A source of a user's own."""

    can_verify, vary = True, "x-mode"

    def __init__(self) -> None:
        self._nginx = sources.Nginx(**_TRUST)
        self.drop_headers = self._nginx.drop_headers

    def find(self, view: Any) -> Any:
        return None if "strict" in view.headers("x-mode") else self._nginx.find(view)


SOURCES: dict[str, Callable[[], Any]] = {
    "nginx": lambda: sources.Nginx(**_TRUST),
    "nginx secret": lambda: sources.Nginx(**_TRUST, **_SECRET),
    "nginx secrets alone": lambda: sources.Nginx(**_SECRET),
    "nginx unix": lambda: sources.Nginx(trusted_proxies=["unix"]),
    "plain": lambda: sources.Nginx(
        certificate_header="MtlsClientCert", verify_header="MtlsClientVerify", **_TRUST, **_SECRET
    ),
    "own": lambda: sources.Nginx(certificate_header="X-Own", verify_header="X-Own-Verify", **_TRUST),
    "haproxy": lambda: sources.HAProxy(chain_header="X-SSL-Client-Chain", **_TRUST),
    "rfc9440": lambda: sources.ClientCertHeader(verified_by_proxy=True, **_TRUST),
    "rfc9440 secret": lambda: sources.ClientCertHeader(verified_by_proxy=True, **_TRUST, **_SECRET),
    "rfc9440 presented": lambda: sources.ClientCertHeader(**_TRUST),
    "envoy": lambda: sources.Envoy(verified_by_proxy=True, **_TRUST),
    "envoy secret": lambda: sources.Envoy(verified_by_proxy=True, **_TRUST, **_SECRET),
    "envoy hops": lambda: sources.Envoy(hops=1, verified_by_proxy=True, **_TRUST),
    "cloudflare": lambda: sources.Cloudflare(**_TRUST),
    "cloudflare secret": lambda: sources.Cloudflare(**_TRUST, **_SECRET),
    "google": lambda: sources.GoogleCloudLoadBalancer(**_TRUST),
    "azure": lambda: sources.AzureAppService(**_TRUST),
    "aws": lambda: sources.AWSLoadBalancer(mode="verify", **_TRUST),
    "aws passthrough": lambda: sources.AWSLoadBalancer(mode="passthrough", **_TRUST),
    "traefik": lambda: sources.Traefik(verified_by_proxy=True, **_TRUST),
    "caddy": lambda: sources.Caddy(verified_by_proxy=True, **_TRUST, **_SECRET),
    "tls": sources.ServerTLS,
    "tls again": sources.ServerTLS,
    "proxy certificate": lambda: sources.Nginx(proxy_certificate=policy.Subject("CN=proxy,O=Tests")),
    "proxy certificate secret": lambda: sources.Nginx(
        proxy_certificate=policy.Subject("CN=proxy,O=Tests"), **_TRUST, **_SECRET
    ),
    "user's source": UsersSource,
    "user's nginx": lambda: UsersNginx(**_TRUST),
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
            return TrustStore.from_pem_file(_fixed(outside))
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


class UsersStore:
    """A trust store of a user's own, whose result changes."""

    def __init__(self, outside: Outside) -> None:
        self._outside, self._store = outside, TrustStore.from_pem_file(_fixed(outside))

    def validate(self, certificate: Any, now: float) -> Any:
        return certificate if self._outside.flipped else self._store.validate(certificate, now)


class UsersTokens:
    """A validator of a user's own, whose result changes."""

    def __init__(self, tokens: Any, outside: Outside) -> None:
        self._tokens, self._outside = tokens, outside

    def validate(self, text: str, now: float) -> Any:
        return self._tokens.validate(text, now - 30 if self._outside.flipped else now)


class UsersJWT(JWTAccessTokens):
    """A subclass with a further condition, which changes."""

    def __init__(self, outside: Outside, **options: Any) -> None:
        super().__init__(**options)
        self._outside = outside

    def validate(self, text: str, now: float) -> Any:
        return super().validate("x" if self._outside.flipped else text, now)


def _fixed(outside: Outside) -> Any:
    path = outside.folder / "fixed.pem"
    if not path.exists():
        path.write_text(outside.material["roots"]["ca"], "ascii")
    return path


# What is not of this package, between layers


def relay(gateway: str, inner: Any) -> Any:
    """A middleware that does nothing: the layers around it and inside of it are two gateways."""

    def called(environ: Any, start_response: Any) -> Any:
        return inner(environ, start_response)

    async def awaited(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    return called if gateway == "wsgi" else awaited


def dispatcher(gateway: str, tried: list[Any]) -> Any:
    """Calls one application after the other with the same environ or scope, until one does not reject the request."""
    return _dispatched_wsgi(tried) if gateway == "wsgi" else _dispatched_asgi(tried)


def _dispatched_wsgi(tried: list[Any]) -> Any:
    def called(environ: Any, start_response: Any) -> Any:
        for application in tried:
            started: list[Any] = []
            body = b"".join(application(environ, lambda *given, to=started: to.append(given)))
            if started[-1][0][:1] == "2":
                break
        start_response(*started[-1])
        return [body]

    return called


def _dispatched_asgi(tried: list[Any]) -> Any:
    async def awaited(scope: Any, receive: Any, send: Any) -> None:
        messages: list[Any] = []
        for application in tried:
            messages.clear()

            async def keep(message: Any) -> None:
                messages.append(message)

            await application(scope, receive, keep)
            if messages[0].get("status") == 200 or messages[0]["type"] == "websocket.accept":
                break
        for message in messages:
            await send(message)

    return awaited


def run(coroutine: Any) -> Any:
    """The result of a coroutine, in an event loop of the process."""
    return _runner().run(coroutine)


_RUNNERS: list[asyncio.Runner] = []


def _runner() -> asyncio.Runner:
    if not _RUNNERS:
        _RUNNERS.append(asyncio.Runner())
    return _RUNNERS[0]
