"""How a token travels, and the answers of RFC 6750 section 3, through both gateways."""

import json
import logging

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.resource_server.bearer import MAX_TOKEN
from mtls_middleware.testing import IssuedCertificate
from tests.resource_server import forge
from tests.resource_server.stack import ASGIStack, Stack
from tests.shared import read_json

ROWS = {row["id"]: row for row in read_json("vectors/errors.json").get("resource_server", ())}


def bound(client: IssuedCertificate, **claims: object) -> str:
    return forge.token(payload=forge.claims(cnf={"x5t#S256": client.thumbprint}, **claims))


@pytest.mark.standard("G1", "G7", "G8")
@pytest.mark.parametrize("authorization", [(), ("Basic dXNlcjpwYXNz",), ("DPoP abc.def",), ("Negotiate",)])
def test_without_a_bearer_token_the_challenge_has_no_error(
    stack: type[Stack], authorization: tuple[str, ...], mtls_client: IssuedCertificate
) -> None:
    outcome = stack(forge.access_tokens()).request(*authorization, certificate=mtls_client)
    assert (outcome.status, outcome.reached) == (401, False)
    assert outcome.challenge
    assert not outcome.challenge.keys() & {"error", "error_description", "error_uri"}
    assert "error" not in json.loads(outcome.body)


@pytest.mark.case("123")
@pytest.mark.standard("G10")
@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "bEaReR ", "Bearer  ", "Bearer      "])
def test_the_schemes_case_and_further_blanks_do_not_matter(
    stack: type[Stack], scheme: str, mtls_client: IssuedCertificate
) -> None:
    app = stack(forge.access_tokens())
    assert app.request(scheme + bound(mtls_client), certificate=mtls_client).status == 200


MALFORMED = {
    "empty": "",
    "blank": " ",
    "scheme alone": "Bearer",
    "scheme and blank": "Bearer ",
    "tab": "Bearer\tabc.def.ghi",
    "two tokens": "Bearer a b",
    "comma": "Bearer a,b",
    "two schemes in one line": "Bearer a.b.c,Bearer d.e.f",
    "second scheme after Basic": "Basic dXNlcjpwYXNz, Bearer a.b.c",
    "DPoP and Bearer": "DPoP a.b.c,Bearer a.b.c",
    "quoted": 'Bearer "a.b.c"',
    "padding inside": "Bearer a=b",
    "padding alone": "Bearer ==",
    "parameter": "Bearer token=abc, x=y",
    "latin-1": "Bearer t\xf6ken",
    "no-break blank": "Bearer\xa0abc",
    "control": "Bearer abc\x01",
    "newline": "Bearer abc\r\n def",
    "colon": "Bearer: abc",
    "blank first": " Bearer abc",
    "blank last": "Bearer abc ",
    "scheme of other letters": "B\xe9arer abc",
}


@pytest.mark.case("121", "123")
@pytest.mark.standard("G2", "G7")
@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_what_the_grammar_does_not_admit_is_a_malformed_request(
    stack: type[Stack], value: str, mtls_client: IssuedCertificate
) -> None:
    outcome = stack(forge.access_tokens()).request(value, certificate=mtls_client)
    assert (outcome.status, outcome.error, outcome.reached) == (400, "invalid_request", False)


@pytest.mark.case("121")
@pytest.mark.standard("G2", "Q8")
@pytest.mark.parametrize("second", ["Bearer {}", "bearer other.token.here", "DPoP {}", "Basic dXNlcjpwYXNz"])
@pytest.mark.parametrize("swapped", [False, True])
def test_two_authorization_fields_are_rejected_even_with_one_token(
    stack: type[Stack], second: str, swapped: bool, mtls_client: IssuedCertificate
) -> None:
    text = bound(mtls_client)
    fields = [f"Bearer {text}", second.format(text)]
    outcome = stack(forge.access_tokens()).request(*sorted(fields, reverse=swapped), certificate=mtls_client)
    assert (outcome.status, outcome.error, outcome.reached) == (400, "invalid_request", False)


@pytest.mark.case("122")
@pytest.mark.standard("G2", "G11")
@pytest.mark.parametrize("name", ["access_token", "access%5Ftoken", "%61ccess_token", "x=1&access_token"])
def test_a_token_in_header_and_query_is_two_methods(
    stack: type[Stack], name: str, mtls_client: IssuedCertificate
) -> None:
    app, text = stack(forge.access_tokens()), bound(mtls_client)
    outcome = app.request(f"Bearer {text}", certificate=mtls_client, query=f"{name}={text}")
    assert (outcome.status, outcome.error, outcome.reached) == (400, "invalid_request", False)


@pytest.mark.case("122")
@pytest.mark.standard("G11")
def test_a_token_in_query_or_form_alone_counts_as_none(stack: type[Stack], mtls_client: IssuedCertificate) -> None:
    app, text = stack(forge.access_tokens()), bound(mtls_client)
    for outcome in (
        app.request(certificate=mtls_client, query=f"access_token={text}"),
        app.request(certificate=mtls_client, method="POST", body=f"access_token={text}"),
    ):
        assert (outcome.status, outcome.error, outcome.reached) == (401, None, False)


def test_a_query_that_only_resembles_a_token_is_the_applications_own(
    stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    query = "access_tokens=1&my_access_token=2&next=access_token"
    outcome = stack(forge.access_tokens()).request(f"Bearer {bound(mtls_client)}", certificate=mtls_client, query=query)
    assert outcome.status == 200


@pytest.mark.case("126")
@pytest.mark.standard("A21", "G4", "G7")
@pytest.mark.parametrize("scope", [None, "", "other", "invoices:read", "invoices:readwrite invoices", "INVOICES:READ"])
def test_too_small_a_scope_is_answered_with_the_scopes_needed(
    stack: type[Stack], scope: str | None, mtls_client: IssuedCertificate
) -> None:
    app = stack(forge.access_tokens(), scopes=["invoices:write", "invoices:read"])
    held = {} if scope is None else {"scope": scope}
    outcome = app.request(f"Bearer {bound(mtls_client, **held)}", certificate=mtls_client)
    assert (outcome.status, outcome.error, outcome.reached) == (403, "insufficient_scope", False)
    assert outcome.challenge
    assert outcome.challenge["scope"] == "invoices:read invoices:write"


@pytest.mark.standard("A21", "H10")
@pytest.mark.parametrize("scope", ["invoices:write invoices:read", " invoices:read  extra invoices:write "])
def test_all_scopes_in_any_order_are_enough(stack: type[Stack], scope: str, mtls_client: IssuedCertificate) -> None:
    app = stack(forge.access_tokens(), scopes=["invoices:read", "invoices:write"])
    outcome = app.request(f"Bearer {bound(mtls_client, scope=scope)}", certificate=mtls_client)
    assert outcome.status == 200
    assert outcome.token
    assert {"invoices:read", "invoices:write"} <= outcome.token.scopes


@pytest.mark.standard("H10")
@pytest.mark.parametrize("blank", ["\u00a0", "\t", "\n", "\u2003", "\x1f"])
def test_only_a_space_parts_two_scopes(stack: type[Stack], blank: str, mtls_client: IssuedCertificate) -> None:
    app = stack(forge.access_tokens(), scopes=["admin"])
    outcome = app.request(f"Bearer {bound(mtls_client, scope=f'read{blank}admin')}", certificate=mtls_client)
    assert (outcome.status, outcome.error) == (403, "insufficient_scope")


def test_scope_is_not_told_to_whom_the_token_does_not_belong(
    stack: type[Stack], mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    app = stack(forge.access_tokens(), scopes=["invoices:read"])
    outcome = app.request(f"Bearer {bound(mtls_client)}", certificate=mtls_other_client)
    assert (outcome.status, outcome.error) == (401, "invalid_token")


@pytest.mark.standard("G13")
@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "TRACE", "PROPFIND", "get"])
def test_every_method_is_enforced_alike(stack: type[Stack], method: str, mtls_client: IssuedCertificate) -> None:
    outcome = stack(forge.access_tokens()).request(certificate=mtls_client, method=method)
    assert (outcome.status, outcome.reached) == (401, False)
    assert outcome.body == b"" or method != "HEAD"


def test_realm_and_resource_metadata_stand_in_every_challenge(
    stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    given = {"realm": "invoices", "resource_metadata": "https://api.test/.well-known/oauth-protected-resource"}
    app = stack(forge.access_tokens(), **given)
    for authorization in ("Basic eDp5", "Bearer", "Bearer abc"):
        challenge = app.request(authorization, certificate=mtls_client).challenge
        assert challenge
        assert given.items() <= challenge.items()


@pytest.mark.standard("G9")
@pytest.mark.parametrize(
    "options",
    [
        *({"realm": realm} for realm in ('x"y', "x\r\ny", "", "\xfc")),
        *({"scopes": scopes} for scopes in (["a b"], ['"'], [""], "invoices:read")),
        *({"resource_metadata": address} for address in ('https://x/"', "http://api.test/x")),
    ],
    ids=str,
)
def test_a_challenge_that_could_not_be_written_is_refused_at_construction(
    stack: type[Stack], options: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError):
        stack(forge.access_tokens(), **options)


@pytest.mark.case("155", "156")
@pytest.mark.standard("A22", "G9")
@pytest.mark.parametrize(
    "hostile", ['Bearer "\r\nSet-Cookie: a=b', "Bearer sneaky.token.text", "Bearer \x1b[31msneaky"]
)
def test_nothing_a_client_sent_comes_back_or_into_the_log(
    stack: type[Stack], hostile: str, mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    outcome = stack(forge.access_tokens()).request(hostile, certificate=mtls_client)
    assert outcome.status in (400, 401)
    said = "".join(value for _, value in outcome.headers) + outcome.body.decode("ascii") + caplog.text
    for part in ("sneaky", "Set-Cookie", "\x1b"):
        assert part not in said


@pytest.mark.case("155")
@pytest.mark.standard("A22")
def test_no_part_of_a_signed_token_comes_into_log_or_repr(
    stack: type[Stack],
    mtls_client: IssuedCertificate,
    mtls_other_client: IssuedCertificate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    app, text = stack(forge.access_tokens()), bound(mtls_client)
    accepted = app.request(f"Bearer {text}", certificate=mtls_client)
    for broken, certificate in ((text, mtls_other_client), (text[:-2], mtls_client), (text + "x" * 20, mtls_client)):
        assert app.request(f"Bearer {broken}", certificate=certificate).status == 401
    for part in text.split("."):
        assert part[:24] not in caplog.text + repr(accepted.token)


def test_a_token_over_the_limit_is_not_looked_at(stack: type[Stack], mtls_client: IssuedCertificate) -> None:
    app = stack(forge.access_tokens())
    outcome = app.request("Bearer " + "a" * (MAX_TOKEN + 1), certificate=mtls_client)
    assert (outcome.status, outcome.error) == (401, "invalid_token")
    padded = bound(mtls_client, padding="x" * 10_000)
    assert len(padded) <= MAX_TOKEN
    assert app.request(f"Bearer {padded}", certificate=mtls_client).status == 200


@pytest.mark.standard("A23")
def test_one_connection_may_carry_many_requests_and_each_is_checked(mtls_client: IssuedCertificate) -> None:
    app = ASGIStack(forge.access_tokens())
    text = bound(mtls_client)
    for authorization, status in (
        (f"Bearer {text}", 200),
        ("", 400),
        (f"Bearer {text}x", 401),
        (f"Bearer {text}", 200),
    ):
        assert app.request(authorization, certificate=mtls_client).status == status
    assert app.request(certificate=mtls_client).status == 401


# The requests of the reference rows that a resource server can meet without introspection.
def request_of(row: str, client: IssuedCertificate) -> tuple[tuple[str, ...], dict[str, object]]:
    text, right = bound(client), client.thumbprint

    def with_cnf(cnf: object) -> tuple[str, ...]:
        return (f"Bearer {forge.token(payload=forge.claims(cnf=cnf))}",)

    return {
        "no-token": ((), {}),
        "other-scheme": (("Basic eDp5",), {}),
        "two-methods": ((f"Bearer {text}",), {"query": f"access_token={text}"}),
        "two-authorization-headers": ((f"Bearer {text}", f"DPoP {text}"), {}),
        "malformed-credentials": (("Bearer a b",), {}),
        "query-token": ((), {"query": f"access_token={text}"}),
        "bad-token": ((f"Bearer {text[:-4]}AAAA",), {}),
        "scope": ((f"Bearer {text}",), {"scopes": ["more"]}),
        "cert-mismatch": (with_cnf({"x5t#S256": "A" * 43}), {}),
        "cert-missing": ((f"Bearer {text}",), {"certificate": None}),
        "unbound-token": ((f"Bearer {forge.token()}",), {}),
        "unbound-token-optional": ((f"Bearer {forge.token()}",), {"binding": "when_present"}),
        "unknown-cnf": (with_cnf({"jkt": right}), {}),
        "malformed-cnf": (with_cnf([right]), {}),
        "both-x5t-jkt": (with_cnf({"x5t#S256": right, "jkt": right}), {}),
    }[row]


# Introspection is another validator's; the certificate header and the answer 403 are tested with the sources.
ELSEWHERE = {"inactive", "introspection-down", "dup-client-cert", "cert-not-acceptable", "ttrp-forged"}


@pytest.mark.shared
@pytest.mark.standard("G1", "G2", "G3", "G4", "G5", "G6")
@pytest.mark.parametrize("row", sorted(ROWS.keys() - ELSEWHERE))
def test_the_answers_are_those_of_the_reference_table(
    stack: type[Stack], row: str, mtls_client: IssuedCertificate
) -> None:
    authorization, more = request_of(row, mtls_client)
    options = {name: more.pop(name) for name in ("scopes", "binding") if name in more}
    outcome = stack(forge.access_tokens(), **options).request(*authorization, **{"certificate": mtls_client, **more})
    assert str(outcome.status) in str(ROWS[row]["status"])
    assert outcome.error == ROWS[row]["error"]
    assert outcome.reached == (outcome.status == 200)
