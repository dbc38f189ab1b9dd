"""The documented server of Authlib with models in memory, and its clients."""

import secrets
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin, TokenMixin, grants
from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import KeySet, RSAKey

from mtls_middleware.testing import TESTING_ENVIRON, CertificateAuthority, self_signed
from tests.integrations.clients import CALLBACK, SECRET, authorization_query, code_form
from tests.integrations.page_code import FILES, proxy_fields

CA, OTHER_CA = CertificateAuthority(), CertificateAuthority()
BILLING, OTHER = (CA.issue(f"CN={name}", dns=[f"{name}.internal"]) for name in ("billing", "other"))
FORGED = OTHER_CA.issue("CN=billing", dns=["billing.internal"])  # the right name, from an untrusted CA
SELF, SELF_OTHER = self_signed("CN=robot"), self_signed("CN=robot")
UNVERIFIED = "FAILED:self-signed certificate"
PROXY = {**TESTING_ENVIRON, "REMOTE_ADDR": "127.0.0.1"}
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Client(ClientMixin):
    """As Authlib's `OAuth2ClientMixin`, which checks the method at the token endpoint and nowhere else."""

    client_id: str
    client_metadata: dict[str, Any]
    client_secret: str = SECRET  # also those that must never come by it have one

    def get_client_id(self):
        return self.client_id

    def get_allowed_scope(self, scope):
        return scope or "read"

    def check_redirect_uri(self, redirect_uri):
        return redirect_uri == CALLBACK

    def check_client_secret(self, client_secret):
        return secrets.compare_digest(self.client_secret, client_secret)

    def check_endpoint_auth_method(self, method, endpoint):
        return endpoint != "token" or self.client_metadata.get("token_endpoint_auth_method") == method

    def check_response_type(self, response_type):
        return response_type == "code"

    def check_grant_type(self, grant_type):
        return True


@dataclass
class Stored(TokenMixin):
    """A token as saved, in memory."""

    access_token: str
    token_type: str
    expires_in: int
    client_id: str
    user: Any
    cnf: Any
    scope: str = ""
    refresh_token: str = ""
    live: bool = True

    def check_client(self, client):
        return self.client_id == client.client_id

    def get_scope(self):
        return self.scope

    def revoke(self):
        self.live = False


@dataclass
class Code(AuthorizationCodeMixin):
    client_id: str
    user: Any
    code_challenge: str
    code_challenge_method: str

    def get_redirect_uri(self):
        return CALLBACK

    def get_scope(self):
        return "read"


class Server:
    """The documented server with models in memory, and a client of it behind the documented proxy."""

    def __init__(self, clients: dict[str, dict[str, Any]]) -> None:
        saved: list[Stored] = []
        codes: dict[str, Code] = {}
        alice = SimpleNamespace(get_user_id=lambda: "alice")
        models = {client_id: Client(client_id, each) for client_id, each in clients.items()}

        class Token(Stored):
            def save(self):
                saved.append(self)

            @staticmethod
            def find(text):
                return next((each for each in saved if each.live and text and text == each.refresh_token), None)

        class YourAuthorizationCodeGrant(grants.AuthorizationCodeGrant):
            def save_authorization_code(self, code, request):
                data = request.payload.data
                codes[code] = Code(
                    request.client.client_id, request.user, data["code_challenge"], data["code_challenge_method"]
                )

            def query_authorization_code(self, code, client):
                return codes[code] if code in codes and codes[code].client_id == client.client_id else None

            def delete_authorization_code(self, authorization_code):
                for code in [code for code, each in codes.items() if each is authorization_code]:
                    del codes[code]

            def authenticate_user(self, authorization_code):
                return authorization_code.user

        names = {
            "__name__": "authorization_server",
            "JWKS": KeySet([RSAKey.import_key(KEY, {"kid": "k"})]),
            "Token": Token,
            "YourAuthorizationCodeGrant": YourAuthorizationCodeGrant,
            "new_refresh_token": lambda **_: secrets.token_urlsafe(),
            "query_client": models.get,
        }
        exec(FILES["authorization_server.py"], names)
        self.app, self.authlib, self.saved, self.models = names["app"], names["server"], saved, models
        self.names = names
        self.registry, self.registration = names["registry"], names["registration"]

        class Device(DeviceAuthorizationEndpoint):
            CLIENT_AUTH_METHODS = (*names["METHODS"], "none")

            def get_verification_uri(self):
                return "https://as.example/device"

            def save_device_credential(self, client_id, scope, data):
                pass

        self.authlib.register_endpoint(Device)
        self.app.add_url_rule(
            "/device_authorization",
            view_func=lambda: self.authlib.create_endpoint_response("device_authorization"),
            methods=["POST"],
        )

        @self.app.get("/authorize")
        def authorize():
            grant = self.authlib.get_consent_grant(end_user=alice)
            return self.authlib.create_authorization_response(grant=grant, grant_user=alice)

    def add(self, file: str, **of_user: Any) -> None:
        """Execute a documented addition. `of_user`: the functions that the documentation leaves to its reader."""
        module = ModuleType("authorization_server")
        vars(module).update(self.names)
        with mock.patch.dict(sys.modules, {"authorization_server": module}):
            exec(FILES[file], {"__name__": file.removesuffix(".py"), **of_user})

    def post(self, path, form, certificate=None, *, verify="SUCCESS", headers=None, query="", json=None):
        shown = proxy_fields(certificate, verify=verify) if certificate else {}
        return self.app.test_client().post(
            path,
            data=form,
            json=json,
            headers={**shown, **(headers or {})},
            query_string=query,
            base_url="https://as.example",
            environ_overrides=PROXY,
        )

    def token(self, client_id, certificate=None, **options):
        form = {"grant_type": "client_credentials", "client_id": client_id}
        return self.post("/token", form, certificate, **options)

    def code(self, client_id, verifier):
        response = self.app.test_client().get(
            "/authorize",
            query_string=authorization_query(client_id, verifier),
            base_url="https://as.example",
            environ_overrides=PROXY,
        )
        return code_form(response.headers["Location"], client_id, verifier)
