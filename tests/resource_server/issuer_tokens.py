"""The tokens of the issuers on docs/issuers.md, with the claims that their documentation or source shows. Only data.

The page cites the sources. A row belongs to one code block of the page.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOW = int(time.time())
API, CLIENT, USER = "https://api.example", "client-1", "user-1"
_TIMES = {"iat": NOW, "exp": NOW + 3_600}
_ID = {**_TIMES, "sub": USER, "auth_time": NOW, "name": "A. User"}


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token. `typ`: the header parameter, `None` if absent. `claims`: without `cnf`."""

    typ: str | None
    claims: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """An access token that a code block of the page accepts, and tokens of the same issuer that it rejects.

    Attributes:
        section, block: the section of the page, and the number of the code block in the section, from 0.
        access: the access token.
        client_id, subject, scopes: what the application gets.
        others: other tokens of the issuer, by name.
        only: the claims that distinguish the access token, as the page says. Empty: its `typ` distinguishes it.
        scheme: the authentication scheme.
    """

    section: str
    access: Token
    others: Mapping[str, Token]
    scopes: frozenset[str]
    block: int = 0
    client_id: str | None = CLIENT
    subject: str | None = USER
    only: frozenset[str] = frozenset()
    scheme: str = "Bearer"

    def __str__(self) -> str:
        return f"{self.section} {self.block} {self.subject}"


def jwt(typ: str | None, claims: Mapping[str, Any], /, **more: Any) -> Token:
    return Token(typ=typ, claims={**claims, **more})


def scopes(*names: str) -> frozenset[str]:
    return frozenset(names)


def _keycloak() -> list[Row]:
    issuer = {**_TIMES, "iss": "https://keycloak.example/realms/acme", "jti": "onrtac:1", "sub": USER, "sid": "s-1"}
    user = {**issuer, "typ": "Bearer", "aud": [API, "account"], "azp": CLIENT, "acr": "1", "scope": "openid email"}
    user["realm_access"] = {"roles": ["offline_access"]}
    service = {**user, "client_id": CLIENT, "clientHost": "10.0.0.7", "preferred_username": "service-account-client-1"}
    id_claims = {**issuer, "typ": "ID", "aud": CLIENT, "azp": CLIENT, "acr": "1"}
    others = {
        "ID token": jwt("JWT", id_claims, nonce="n", at_hash="h"),
        "ID token of a plain login": jwt("JWT", id_claims),
        "refresh token": jwt("JWT", issuer, typ="Refresh", aud=issuer["iss"], azp=CLIENT, scope="openid"),
        "offline token": jwt("JWT", issuer, typ="Offline", aud=issuer["iss"], azp=CLIENT, scope="openid"),
        "logout token": jwt("JWT", issuer, typ="Logout", aud=CLIENT, events={"http://schemas.openid.net/event": {}}),
    }
    common: dict[str, Any] = {"section": "Keycloak", "others": others, "scopes": scopes("openid", "email")}
    only = frozenset({"typ"})
    return [
        Row(access=jwt("at+jwt", user), **common),
        Row(access=jwt("at+jwt", service, sub="service-1"), subject="service-1", **common),
        Row(access=jwt("JWT", user), block=1, only=only, **common),
        Row(access=jwt("JWT", service, sub="service-1"), subject="service-1", block=1, only=only, **common),
        Row(access=jwt("JWT", user, nonce="n"), block=2, only=only, **common),
    ]


def _auth0() -> list[Row]:
    issuer = {**_TIMES, "iss": "https://acme.eu.auth0.com/", "sub": USER}
    user = {**issuer, "aud": [API, "https://acme.eu.auth0.com/userinfo"], "scope": "openid read:invoices"}
    others = {
        "ID token": jwt("JWT", {**_ID, **issuer}, aud=CLIENT, email="user@example.com"),
        "ID token with a nonce": jwt("JWT", {**_ID, **issuer}, aud=CLIENT, nonce="n", sid="s-1"),
    }
    common: dict[str, Any] = {"section": "Auth0", "others": others}
    of_user, of_machine = scopes("openid", "read:invoices"), scopes("read:invoices")
    machine = {**issuer, "sub": "client-1@clients", "aud": API, "gty": "client-credentials", "scope": "read:invoices"}
    only: dict[str, Any] = {"only": frozenset({"scope", "azp"}), "block": 1}
    as_machine: dict[str, Any] = {"subject": "client-1@clients", "scopes": of_machine}
    return [
        Row(access=jwt("at+jwt", user, client_id=CLIENT, jti="1"), scopes=of_user, **common),
        Row(access=jwt("at+jwt", machine, client_id=CLIENT, jti="1"), **as_machine, **common),
        Row(access=jwt("JWT", user, azp=CLIENT), scopes=of_user, **only, **common),
        Row(access=jwt("JWT", machine, azp=CLIENT), **as_machine, **only, **common),
    ]


def _entra() -> list[Row]:
    tenant, api = "11111111-2222-3333-4444-555555555555", "99999999-aaaa-bbbb-cccc-dddddddddddd"
    every = {**_TIMES, "nbf": NOW, "sub": USER, "oid": "o-1", "tid": tenant, "uti": "u-1"}
    v2 = {**every, "iss": f"https://login.microsoftonline.com/{tenant}/v2.0", "ver": "2.0"}
    v1 = {**every, "iss": f"https://sts.windows.net/{tenant}/", "ver": "1.0"}
    user = {"scp": "invoices.read access_as_user", "idtyp": "user"}
    app = {"roles": ["Invoices.Read.All"], "idtyp": "app", "sub": "o-1"}
    signed_in = {"aud": api, "preferred_username": "user@example.com", "roles": ["Invoices.Read.All"]}
    of_v2 = {"ID token": jwt("JWT", v2, **signed_in), "with a nonce": jwt("JWT", v2, **signed_in, nonce="n")}
    of_v1 = {"ID token": jwt("JWT", v1, **signed_in), "with a nonce": jwt("JWT", v1, **signed_in, nonce="n")}
    of_app: dict[str, Any] = {"subject": "o-1", "scopes": scopes("Invoices.Read.All"), "section": "Entra ID"}
    of_user: dict[str, Any] = {"scopes": scopes("invoices.read", "access_as_user"), "section": "Entra ID"}
    azp: dict[str, Any] = {"others": of_v2, "only": frozenset({"idtyp", "azp"})}
    appid: dict[str, Any] = {"others": of_v1, "only": frozenset({"idtyp", "appid"}), "block": 1}
    delegated = Token(typ="JWT", claims={**v2, **user, "aud": api, "azp": CLIENT, "roles": ["Invoices.Read.All"]})
    pop = {**azp, "others": {**of_v2, "token of a user": delegated}, "scheme": "mtls_pop", "block": 2}
    return [
        Row(access=jwt("JWT", {**v2, **user}, aud=api, azp=CLIENT, azpacr="1"), **azp, **of_user),
        Row(access=jwt("JWT", {**v2, **app}, aud=api, azp=CLIENT, azpacr="2"), **azp, **of_app),
        Row(access=jwt("JWT", {**v1, **user}, aud=f"api://{api}", appid=CLIENT), **appid, **of_user),
        Row(access=jwt("JWT", {**v1, **app}, aud=api, appid=CLIENT), **appid, **of_app),
        Row(access=jwt("JWT", {**v2, **app}, aud=api, azp=CLIENT, azpacr="2"), **pop, **of_app),
    ]


def _okta() -> list[Row]:
    issuer = {**_TIMES, "iss": "https://acme.okta.com/oauth2/default", "ver": 1, "auth_time": NOW, "sub": USER}
    client = "0oa4dr9kzkykPrLhq0g7"
    access = {**issuer, "jti": "AT.1", "aud": "api://default", "cid": client, "uid": "00u1", "scp": ["openid", "read"]}
    id_claims = {**issuer, "jti": "ID.1", "aud": client, "amr": ["pwd"], "idp": "00o1", "name": "A. User"}
    others = {"ID token": jwt(None, id_claims), "with hashes": jwt(None, id_claims, at_hash="h", nonce="n")}
    common: dict[str, Any] = {"section": "Okta", "others": others, "client_id": client}
    common["scopes"] = scopes("openid", "read")
    return [
        Row(access=jwt(None, access, token_use="access"), only=frozenset({"token_use"}), **common),
        Row(access=jwt(None, access), only=frozenset({"cid"}), block=1, **common),
    ]


def _cognito() -> list[Row]:
    issuer = {**_TIMES, "iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_EXAMPLE", "sub": USER}
    client, scope = "1example23456789", f"{API}/invoices.read"
    common_claims = {**issuer, "origin_jti": "o-1", "event_id": "e-1", "auth_time": NOW, "jti": "1"}
    access = {**common_claims, "token_use": "access", "client_id": client, "version": 2, "scope": scope}
    user = {**access, "username": "user", "cognito:groups": ["accounting"], "device_key": "d-1"}
    machine = {name: value for name, value in access.items() if name not in {"origin_jti", "event_id"}}
    id_claims = {**common_claims, "token_use": "id", "aud": client, "cognito:username": "user"}
    others = {"ID token": jwt(None, id_claims), "with hashes": jwt(None, id_claims, at_hash="h", nonce="n")}
    common: dict[str, Any] = {"section": "Cognito", "others": others, "scopes": scopes(scope), "client_id": client}
    common["only"] = frozenset({"token_use"})
    return [
        Row(access=jwt(None, user, aud=API), **common),
        Row(access=jwt(None, user), block=1, **common),
        Row(access=jwt(None, machine, sub=client), block=1, subject=client, **common),
    ]


def _duende() -> list[Row]:
    issuer = {**_TIMES, "iss": "https://identity.example", "nbf": NOW, "jti": "1"}
    login = {"sub": USER, "auth_time": NOW, "idp": "local", "amr": ["pwd"], "sid": "s-1"}
    access = {**issuer, "aud": "invoices", "client_id": CLIENT}
    id_claims = {**issuer, **login, "aud": CLIENT, "nonce": "n", "at_hash": "h"}
    common: dict[str, Any] = {"section": "Duende", "others": {"ID token": jwt("JWT", id_claims)}}
    user, read = {**access, **login}, scopes("openid", "invoices.read")
    return [
        Row(access=jwt("at+jwt", user, scope="openid invoices.read"), scopes=read, **common),
        Row(access=jwt("at+jwt", user, scope=["openid", "invoices.read"]), scopes=read, block=1, **common),
        Row(
            access=jwt("at+jwt", access, scope=["invoices.read"]),
            scopes=scopes("invoices.read"),
            subject=None,
            block=1,
            **common,
        ),
    ]


def _hydra() -> list[Row]:
    issuer = {**_TIMES, "iss": "https://hydra.example", "jti": "1", "sub": USER}
    access = {**issuer, "nbf": NOW, "aud": [API], "client_id": CLIENT, "ext": {}}
    id_claims = {**issuer, "aud": [CLIENT], "auth_time": NOW, "rat": NOW, "sid": "s-1"}
    others = {"ID token": jwt("JWT", id_claims), "with hashes": jwt("JWT", id_claims, at_hash="h", nonce="n")}
    common: dict[str, Any] = {"section": "Ory Hydra", "others": others}
    common["scopes"] = scopes("offline", "invoices.read")
    return [
        Row(access=jwt("JWT", access, scope="offline invoices.read"), only=frozenset({"client_id", "scope"}), **common),
        Row(
            access=jwt("JWT", access, scp=["offline", "invoices.read"]),
            only=frozenset({"client_id", "scp"}),
            block=1,
            **common,
        ),
    ]


def _uaa() -> list[Row]:
    issuer = {**_TIMES, "iss": "https://uaa.example/oauth/token", "jti": "1", "zid": "uaa", "rev_sig": "3314dc98"}
    client = {**issuer, "client_id": CLIENT, "cid": CLIENT, "azp": CLIENT}
    login = {"sub": USER, "user_id": USER, "origin": "uaa", "user_name": "user", "grant_type": "authorization_code"}
    user = {**client, **login, "aud": ["openid", "invoices"], "scope": ["openid", "invoices.read"], "auth_time": NOW}
    machine = {**client, "sub": CLIENT, "aud": ["invoices"], "scope": ["invoices.read"]}
    id_claims = {**client, **login, "aud": [CLIENT], "scope": ["openid"], "amr": ["pwd"]}
    refresh = {**issuer, **login, "jti": "1-r", "client_id": CLIENT, "cid": CLIENT, "aud": ["openid", "invoices"]}
    others = {
        "ID token": jwt("JWT", id_claims),
        "ID token with a nonce": jwt("JWT", id_claims, nonce="n"),
        "refresh token": jwt("JWT", refresh, granted_scopes=["openid", "invoices.read"]),
    }
    common: dict[str, Any] = {"section": "Cloud Foundry UAA", "others": others}
    of_user = scopes("openid", "invoices.read")
    return [
        Row(
            access=jwt("JWT", machine, grant_type="client_credentials"),
            subject=CLIENT,
            scopes=scopes("invoices.read"),
            only=frozenset({"grant_type"}),
            **common,
        ),
        Row(access=jwt("JWT", user), scopes=of_user, only=frozenset({"scope"}), block=1, **common),
        Row(access=jwt("JWT", user, nonce="n"), scopes=of_user, only=frozenset({"scope"}), block=1, **common),
    ]


def _curity() -> list[Row]:
    issuer = {**_TIMES, "iss": "https://idsvr.example/oauth/v2/oauth-anonymous", "jti": "1", "sub": USER, "nbf": NOW}
    access = {**issuer, "delegationId": "d-1", "scope": "openid read", "aud": API, "purpose": "access_token"}
    id_claims = {**issuer, "purpose": "id", "aud": [API, CLIENT], "azp": CLIENT, "auth_time": NOW, "acr": "urn:se:1"}
    others = {"ID token": jwt(None, id_claims), "with hashes": jwt(None, id_claims, at_hash="h", nonce="n")}
    common: dict[str, Any] = {"section": "Curity", "others": others, "scopes": scopes("openid", "read")}
    common["only"] = frozenset({"purpose"})
    return [
        Row(access=jwt(None, access), client_id=None, **common),
        Row(access=jwt(None, access, client_id=CLIENT), **common),
    ]


def _forgerock() -> list[Row]:
    realm = {"iss": "https://am.example:443/am/oauth2/alpha", "realm": "/alpha", "auditTrackingId": "a-1"}
    issuer = {**_TIMES, **realm, "sub": "(usr!user-1)", "aud": "myClient", "auth_time": NOW}
    access = {**issuer, "subname": USER, "cts": "OAUTH2_STATELESS_GRANT", "tokenName": "access_token", "nbf": NOW}
    access |= {"token_type": "Bearer", "grant_type": "authorization_code", "expires_in": 3_600, "jti": "1"}
    access |= {"authGrantId": "g-1", "scope": ["openid", "invoices.read"], "nonce": "n"}
    id_claims = {**issuer, "tokenName": "id_token", "azp": "myClient", "acr": "0", "tokenType": "JWTToken"}
    hashes = {"at_hash": "h", "c_hash": "h", "s_hash": "h", "org.forgerock.openidconnect.ops": "o"}
    others = {"ID token": jwt("JWT", id_claims, **hashes), "ID token without hashes": jwt("JWT", id_claims)}
    others["another tokenName"] = jwt("JWT", access, tokenName="refresh_token")
    common: dict[str, Any] = {"section": "ForgeRock", "others": others, "only": frozenset({"tokenName"})}
    common |= {"scopes": scopes("openid", "invoices.read"), "subject": "(usr!user-1)"}
    exchanged = {"client_id": "agent", "aud": ["agent", "myClient"], "act": {"sub": "agent"}}
    return [
        Row(access=jwt("JWT", access, client_id="myClient"), client_id="myClient", **common),
        Row(access=jwt("JWT", {**access, **exchanged}), client_id="agent", **common),
        Row(access=jwt("JWT", access), client_id="myClient", block=1, **common),
    ]


def _pingfederate() -> list[Row]:
    issuer = {**_TIMES, "iss": "https://pingfederate.example", "jti": "1"}
    access = {"iss": issuer["iss"], "exp": issuer["exp"], "jti": "1", "aud": API, "client_id": CLIENT}
    id_claims = {**issuer, "sub": USER, "aud": CLIENT, "auth_time": NOW}
    others = {"ID token": jwt(None, id_claims), "with hashes": jwt(None, id_claims, at_hash="h", nonce="n")}
    common: dict[str, Any] = {"section": "PingFederate", "others": others, "scopes": scopes("openid", "read")}
    return [
        Row(access=jwt("at+jwt", access, scope="openid read", sub=USER, iat=NOW), **common),
        Row(
            access=jwt(None, access, scope=["openid", "read"], token_use="access"),
            only=frozenset({"token_use"}),
            subject=None,
            block=1,
            **common,
        ),
    ]


def _spring() -> list[Row]:
    issuer = {**_TIMES, "iss": "https://spring.example", "sub": USER, "jti": "1"}
    access = {**issuer, "nbf": NOW, "scope": ["openid", "read"]}
    others = {
        "ID token": jwt(None, issuer, aud=[CLIENT], azp=CLIENT, auth_time=NOW, sid="s-1", nonce="n"),
        "access token by default": jwt(None, access, aud=[CLIENT]),
    }
    token = jwt("at+jwt", access, aud=[API], client_id=CLIENT)
    return [
        Row(section="Spring Authorization Server", access=token, others=others, scopes=scopes("openid", "read")),
    ]


def _oidc_provider() -> list[Row]:
    issuer = {**_TIMES, "iss": "https://op.example", "sub": USER}
    token = jwt("at+jwt", issuer, jti="1", scope="openid read", client_id=CLIENT, aud=API)
    id_claims = {**issuer, "aud": CLIENT}
    others = {"ID token": jwt(None, id_claims), "with hashes": jwt(None, id_claims, at_hash="h", nonce="n")}
    return [Row(section="oidc-provider", access=token, others=others, scopes=scopes("openid", "read"))]


ROWS = [
    *_keycloak(),
    *_auth0(),
    *_entra(),
    *_okta(),
    *_cognito(),
    *_duende(),
    *_hydra(),
    *_uaa(),
    *_curity(),
    *_forgerock(),
    *_pingfederate(),
    *_spring(),
    *_oidc_provider(),
]
