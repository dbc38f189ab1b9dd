"""What servers publish about mutual TLS: the members, their types, their places; and what a client reads of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware import ConfigurationError
from mtls_middleware.token_endpoint import (
    authorization_server_metadata,
    mtls_endpoint,
    protected_resource_metadata,
    well_known,
)
from tests import shared
from tests.gateways import Request, both_gateways, send

BOUND = "tls_client_certificate_bound_access_tokens"
SERVER = {"issuer": "https://as.example", "token_endpoint": "https://as.example/token"}
RESOURCE = {"resource": "https://api.example"}


def server(**members: Any) -> dict[str, Any]:
    return authorization_server_metadata(**{**SERVER, **members})


def resource(**members: Any) -> dict[str, Any]:
    return protected_resource_metadata(**{**RESOURCE, **members})


BOTH = pytest.mark.parametrize("publish", [server, resource], ids=["authorization server", "protected resource"])


# --- both documents ---


@BOTH
@pytest.mark.standard("C1", "C13", "P2")
def test_bound_tokens_are_a_boolean(publish: Any) -> None:
    assert json.loads(json.dumps(publish()))[BOUND] is True
    assert publish(**{BOUND: False})[BOUND] is False
    for wrong in ("true", "false", 1, 0, None, "yes", []):
        with pytest.raises(ConfigurationError, match=f"{BOUND}=.*True or False"):
            publish(**{BOUND: wrong})


@BOTH
@pytest.mark.standard("P1", "C13")
def test_a_drafts_name_is_never_written(publish: Any) -> None:
    with pytest.raises(ConfigurationError, match=BOUND):
        publish(mutual_tls_sender_constrained_access_tokens=True)
    assert "mutual_tls_sender_constrained_access_tokens" not in publish()


@BOTH
@pytest.mark.standard("C8", "C16")
def test_members_without_value_are_left_out(publish: Any) -> None:
    document = publish(op_policy_uri=None, ui_locales_supported=[], x={}, scopes_supported=[], y=())
    assert document.keys() & {"op_policy_uri", "ui_locales_supported", "x", "y", "scopes_supported"} == set()
    assert publish(z=False, n=0) | {"z": False, "n": 0} == publish(z=False, n=0)


@BOTH
@pytest.mark.standard("C16", "C19", "C11")
def test_further_members_stand_as_they_are_given(publish: Any) -> None:
    given = {"scopes_supported": ["read"], "signed_metadata": "e30.e30.c2ln", "resource_name": "Acme"}
    assert given.items() <= publish(**given).items()


@BOTH
@pytest.mark.standard("C10", "C12")
@pytest.mark.parametrize(
    "address",
    ["http://as.example", "as.example", "", "https://", "https://as.example#x", "https://[as", None, 7, b"https://a"],
    ids=repr,
)
def test_addresses_are_https(publish: Any, address: Any) -> None:
    name = "issuer" if publish is server else "resource"
    for member in (name, "token_endpoint" if publish is server else "jwks_uri"):
        if publish is resource and member == "jwks_uri" and address is None:
            continue
        with pytest.raises(ConfigurationError, match=f"{member}=.*an https URL"):
            publish(**{member: address})


# --- the authorization server ---


@pytest.mark.standard("C8", "C9")
def test_an_issuer_stands_as_it_is_given_and_has_no_query() -> None:
    for issuer in ("https://as.example", "https://as.example/", "https://as.example/tenant"):
        assert server(issuer=issuer)["issuer"] == issuer  # compared code point by code point
    with pytest.raises(ConfigurationError, match="without query"):
        server(issuer="https://as.example?tenant=a")


@pytest.mark.standard("C10")
@pytest.mark.parametrize(
    "name", ["jwks_uri", "introspection_endpoint", "revocation_endpoint", "authorization_endpoint"]
)
def test_every_endpoint_is_https(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}=.*an https URL"):
        server(**{name: "http://as.example/x"})
    assert server(**{name: "https://as.example/x"})[name] == "https://as.example/x"


@pytest.mark.standard("C6", "C7")
def test_methods_are_listed_by_their_names() -> None:
    methods = ["tls_client_auth", "self_signed_tls_client_auth"]
    assert server()["token_endpoint_auth_methods_supported"] == methods
    more = [*methods, "client_secret_basic", "none"]
    document = server(
        token_endpoint_auth_methods_supported=tuple(more),
        introspection_endpoint_auth_methods_supported=methods,
        revocation_endpoint_auth_methods_supported=methods,
    )
    assert document["token_endpoint_auth_methods_supported"] == more
    assert document["introspection_endpoint_auth_methods_supported"] == methods
    assert document["revocation_endpoint_auth_methods_supported"] == methods
    assert "introspection_endpoint_auth_methods_supported" not in server()  # which has no default
    for wrong in ("tls_client_auth", b"x", None, 7, [7]):
        with pytest.raises(ConfigurationError, match="a list of strings"):
            server(token_endpoint_auth_methods_supported=wrong)


@pytest.mark.standard("C2", "C5", "P9")
def test_aliases_are_an_object_of_endpoints_or_nothing() -> None:
    aliases = {"token_endpoint": "https://mtls.as.example:8443/token", "introspection_endpoint": "https://m.example/i"}
    assert server(mtls_endpoint_aliases=aliases)["mtls_endpoint_aliases"] == aliases
    for empty in (None, {}):
        assert "mtls_endpoint_aliases" not in server(mtls_endpoint_aliases=empty)


@pytest.mark.standard("C4")
@pytest.mark.parametrize("name", ["issuer", "authorization_endpoint", "jwks_uri", "token", "scopes_supported", 7])
def test_what_no_client_calls_has_no_alias(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not an endpoint that clients call"):
        server(mtls_endpoint_aliases={name: "https://mtls.as.example/x"})


@pytest.mark.standard("C4", "C10")
@pytest.mark.parametrize("aliases", [{"token_endpoint": "http://m.example"}, {"token_endpoint": None}, ["x"], "x", 7])
def test_aliases_that_are_none_are_refused(aliases: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"an https URL|a mapping"):
        server(mtls_endpoint_aliases=aliases)


@pytest.mark.shared
@pytest.mark.standard("C1", "C2", "C3", "C5", "C6")
def test_the_document_of_rfc_8705_section_5_is_written_and_read() -> None:
    document = shared.read_json("vectors/rfc8705.json")["as_metadata_section_5"]
    assert authorization_server_metadata(**document) == document
    for name in ("token_endpoint", "introspection_endpoint", "revocation_endpoint"):
        assert mtls_endpoint(document, name) == document["mtls_endpoint_aliases"][name]
    assert mtls_endpoint(document, "authorization_endpoint") == document["authorization_endpoint"]


# --- a client ---


@pytest.mark.standard("C3", "C4", "C5")
def test_a_client_with_a_certificate_uses_the_alias_where_there_is_one() -> None:
    own, alias = "https://as.example/token", "https://mtls.as.example/token"
    for aliases, expected in (
        ({"token_endpoint": alias}, alias),
        ({"revocation_endpoint": alias}, own),
        ({}, own),
        (None, own),
        ("x", own),
        ({"token_endpoint": None}, own),
    ):
        assert mtls_endpoint({"token_endpoint": own, "mtls_endpoint_aliases": aliases}, "token_endpoint") == expected
    assert mtls_endpoint({"token_endpoint": own}, "token_endpoint") == own
    for name in ("issuer", "authorization_endpoint", "jwks_uri"):
        assert mtls_endpoint({name: own, "mtls_endpoint_aliases": {name: alias}}, name) == own
    for empty in ("", None):
        document = {"token_endpoint": own, "mtls_endpoint_aliases": {"token_endpoint": empty}}
        assert mtls_endpoint(document, "token_endpoint") == own
    assert mtls_endpoint({"token_endpoint": ""}, "token_endpoint") is None
    assert mtls_endpoint({}, "token_endpoint") is None
    assert mtls_endpoint({"token_endpoint": 7}, "token_endpoint") is None


@pytest.mark.standard("C8", "C15")
@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("https://as.example", "https://as.example/.well-known/{}"),
        ("https://as.example/", "https://as.example/.well-known/{}"),
        ("https://as.example/tenant", "https://as.example/.well-known/{}/tenant"),
        ("https://as.example/tenant/", "https://as.example/.well-known/{}/tenant"),
        ("https://as.example:8443/a/b", "https://as.example:8443/.well-known/{}/a/b"),
        ("https://as.example/resource1?x=1", "https://as.example/.well-known/{}/resource1?x=1"),
    ],
)
def test_a_document_stands_between_host_and_path(identifier: str, expected: str) -> None:
    assert well_known(identifier) == expected.format("oauth-authorization-server")
    resource_name = "oauth-protected-resource"
    assert well_known(identifier, resource_name) == expected.format(resource_name)


@pytest.mark.parametrize("identifier", ["http://as.example", "as.example", "", "https://[", None])
def test_an_identifier_without_https_has_no_document(identifier: Any) -> None:
    with pytest.raises(ConfigurationError, match="an https URL"):
        well_known(identifier)


# --- the protected resource ---


@pytest.mark.standard("C12", "C17")
def test_a_resource_stands_as_it_is_given() -> None:
    for identifier in ("https://api.example", "https://api.example/", "https://api.example/v1?x=1"):
        assert resource(resource=identifier)["resource"] == identifier
    with pytest.raises(TypeError):
        protected_resource_metadata()


@pytest.mark.standard("C14")
@both_gateways
def test_the_method_that_is_published_is_the_one_that_is_read(gateway: str, mtls_issuer: Any, mtls_client: Any) -> None:
    assert resource()["bearer_methods_supported"] == ["header"]
    with pytest.raises(ConfigurationError, match="bearer_methods_supported"):
        resource(bearer_methods_supported=["header", "query"])
    token = mtls_issuer.token(certificate=mtls_client)

    def wrap(module: Any, app: Any) -> Any:
        from mtls_middleware.sources import ServerTLS

        return module.protect(app, source=ServerTLS(), tokens=mtls_issuer.access_tokens())

    in_header = Request(headers=[("Authorization", f"Bearer {token}")], tls=mtls_client)
    assert send(gateway, wrap, in_header).status == 200
    assert send(gateway, wrap, Request(query=f"access_token={token}", tls=mtls_client)).status == 401


@pytest.mark.standard("C20")
@pytest.mark.parametrize("algorithms", [["none"], ["ES256", "none"], ("none",), "none"])
def test_algorithm_none_is_rejected(algorithms: Any) -> None:
    with pytest.raises(ConfigurationError, match="contains 'none'"):
        resource(resource_signing_alg_values_supported=algorithms)
    assert resource(resource_signing_alg_values_supported=["ES256"])["resource_signing_alg_values_supported"]


@pytest.mark.standard("C19", "C13")
def test_scopes_and_servers_are_lists() -> None:
    document = resource(scopes_supported=("read",), authorization_servers=["https://as.example"])
    assert document["scopes_supported"] == ["read"]
    assert document["authorization_servers"] == ["https://as.example"]
    assert not [name for name in document if "required" in name]  # RFC 9728 has no such member for certificates
    for name in ("scopes_supported", "authorization_servers"):
        with pytest.raises(ConfigurationError, match=f"{name}=.*a list of strings"):
            resource(**{name: "read"})


@both_gateways
@pytest.mark.standard("C18")
def test_a_challenge_says_where_the_document_is(gateway: str, mtls_issuer: Any) -> None:
    from mtls_middleware.sources import ServerTLS

    address = well_known("https://api.example/v1", "oauth-protected-resource")

    def wrap(module: Any, app: Any) -> Any:
        tokens = mtls_issuer.access_tokens()
        inner = module.CertificateBoundTokenMiddleware(app, tokens, resource_metadata=address)
        return module.ClientCertificateMiddleware(inner, ServerTLS())

    for headers, error in (((), None), ([("Authorization", "Bearer x")], 'error="invalid_token"')):
        challenge = send(gateway, wrap, Request(headers=headers)).header("WWW-Authenticate") or ""
        assert f'resource_metadata="{address}"' in challenge
        assert error is None or error in challenge


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.sampled_from(["https://as.example", "http://x", "https://["]) | JSON
            for name in (
                "issuer",
                "token_endpoint",
                "jwks_uri",
                "mtls_endpoint_aliases",
                "token_endpoint_auth_methods_supported",
                BOUND,
                "resource",
                "x_endpoint",
            )
        },
    )
)
@pytest.mark.standard("C1", "C2", "C4", "C10")
def test_whatever_is_given_is_published_whole_or_a_configuration_error(members: dict[str, Any]) -> None:
    try:
        document = server(**members)
    except ConfigurationError:
        return
    assert document["issuer"].startswith("https://")
    assert isinstance(document[BOUND], bool)
    assert json.loads(json.dumps(document)) == document
    assert mtls_endpoint(document, "token_endpoint")
