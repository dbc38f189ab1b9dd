"""docs/issuers.md is true: each configuration accepts that issuer's access tokens, and rejects its other tokens."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware import resource_server, wsgi
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate
from tests.gateways import Outcome, Request, send
from tests.resource_server import forge
from tests.resource_server.issuer_tokens import ROWS, Row, Token

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "issuers.md").read_text("utf-8")
INTRODUCTION, *_PARTS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
SECTIONS = {part.partition("\n")[0]: part.partition("\n")[2] for part in _PARTS}
TABLE = [line for line in INTRODUCTION.splitlines() if line.startswith("| [")]

every_row = pytest.mark.parametrize("row", ROWS, ids=str)


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def tokens_with_keys(**options: Any) -> JWTAccessTokens:
    """The page's tokens. The keys are those of the test instead of those of the issuer."""
    kept = {name: value for name, value in options.items() if name not in {"discovery", "jwks_uri"}}
    return JWTAccessTokens(jwks=forge.JWKS, **kept)


def layers(code: str, application: Any, **options: Any) -> Any:
    """The application with the layer of this code block. If the block has no layer, the page's usual one."""
    names: dict[str, Any] = {"app": application, "source": ServerTLS()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resource_server, "JWTAccessTokens", tokens_with_keys)
        patch.setattr(wsgi, "protect", functools.partial(wsgi.protect, **options))
        exec(code, names)
        if names["app"] is application:
            names["app"] = wsgi.protect(application, source=names["source"], tokens=names["tokens"])
    return names["app"]


def answer(row: Row, token: Token, client: IssuedCertificate, *, scheme: str | None = None, **options: Any) -> Outcome:
    """The response to a request with this token and this client certificate."""
    code = blocks(SECTIONS[row.section])[row.block]
    typ = {} if token.typ is None else {"typ": token.typ}
    text = forge.token({**typ, "alg": "ES256", "kid": forge.KEY_ID}, dict(token.claims))
    headers = [("Authorization", f"{scheme or row.scheme} {text}")]
    return send("wsgi", lambda _, app: layers(code, app, **options), Request(tls=client, headers=headers))


def changed(token: Token, claims: Mapping[str, Any]) -> Token:
    return Token(typ=token.typ, claims={**token.claims, **claims})


def bound(token: Token, client: IssuedCertificate) -> Token:
    return changed(token, {"cnf": {"x5t#S256": client.thumbprint}})


def for_the_api(row: Row, token: Token) -> Token:
    """The other token, with the audience of the access token."""
    return changed(token, {"aud": row.access.claims["aud"]} if "aud" in row.access.claims else {})


@every_row
def test_the_documented_access_token_is_accepted(row: Row, mtls_client: IssuedCertificate) -> None:
    token = answer(row, bound(row.access, mtls_client), mtls_client).application.token
    assert token is not None
    assert (token.subject, token.client_id, token.scopes) == (row.subject, row.client_id, row.scopes)
    assert token.bound


@every_row
def test_a_token_without_binding_is_rejected(row: Row, mtls_client: IssuedCertificate) -> None:
    assert answer(row, row.access, mtls_client).status == 401
    token = answer(row, row.access, mtls_client, binding="when_present").token
    # An unbound token is no proof of possession.
    assert (token is not None and not token.bound) == (row.scheme == "Bearer")


@every_row
def test_a_token_bound_to_another_certificate_is_rejected(
    row: Row, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    for binding in ("required", "when_present"):
        assert answer(row, bound(row.access, mtls_other_client), mtls_client, binding=binding).status == 401


@every_row
def test_another_token_of_the_issuer_is_rejected(row: Row, mtls_client: IssuedCertificate) -> None:
    """The attacker has an ID token of another client of the same issuer. Then it has the audience of the API, too."""
    assert any("ID token" in name for name in row.others)
    for name, other in row.others.items():
        for token in (other, for_the_api(row, other)):
            assert not answer(row, bound(token, mtls_client), mtls_client).reached, name
            assert not answer(row, token, mtls_client, binding="when_present").reached, name


@every_row
def test_what_distinguishes_access_tokens_is_checked(row: Row, mtls_client: IssuedCertificate) -> None:
    """The token differs from an access token only in a claim that the page names, or only in its `typ`."""
    access = bound(row.access, mtls_client)
    for name in row.only:
        assert re.search(rf"`{name}`", SECTIONS[row.section].split("**What this gives up**")[1])
        without = {key: value for key, value in access.claims.items() if key != name}
        assert answer(row, Token(typ=access.typ, claims=without), mtls_client).status == 401, name
        for other in row.others.values():
            if name in other.claims and other.claims[name] != access.claims[name]:
                assert not answer(row, changed(access, {name: other.claims[name]}), mtls_client).reached, name
    for typ in {other.typ for other in row.others.values()} if not row.only else set():
        assert answer(row, Token(typ=typ, claims=access.claims), mtls_client).status == 401


@every_row
def test_only_the_scheme_of_the_page_is_accepted(row: Row, mtls_client: IssuedCertificate) -> None:
    for scheme in {"Bearer", "mtls_pop", "DPoP"} - {row.scheme}:
        assert answer(row, bound(row.access, mtls_client), mtls_client, scheme=scheme).status == 401


@every_row
def test_a_token_for_another_api_or_of_another_issuer_is_rejected(row: Row, mtls_client: IssuedCertificate) -> None:
    others: dict[str, Any] = {"iss": "https://other.example", "exp": 1_600_000_000}
    if "aud" in row.access.claims:
        others["aud"] = "https://other-api.example"
    for name, value in others.items():
        token = changed(bound(row.access, mtls_client), {name: value})
        assert answer(row, token, mtls_client).status == 401, name


@pytest.mark.parametrize("section", ["Entra ID", "Cognito", "Cloud Foundry UAA", "ForgeRock"])
def test_a_token_without_the_scope_of_the_page_is_rejected(section: str, mtls_client: IssuedCertificate) -> None:
    rows = [row for row in ROWS if row.section == section and "scopes=" in blocks(SECTIONS[section])[row.block]]
    assert rows
    for row in rows:
        name = "scope" if "scope" in row.access.claims else "roles"
        other = ["openid"] if isinstance(row.access.claims[name], list) else "openid"
        token = changed(bound(row.access, mtls_client), {name: other})
        assert answer(row, token, mtls_client).status == 403


def test_every_code_block_has_a_row() -> None:
    assert {(row.section, row.block) for row in ROWS} == {
        (name, number) for name, text in SECTIONS.items() for number in range(len(blocks(text)))
    }


def test_every_code_block_runs_as_it_is() -> None:
    for code in blocks(PAGE):
        names: dict[str, Any] = {"app": lambda *_: [], "source": ServerTLS()}
        exec(code, names)
        assert isinstance(names["tokens"], JWTAccessTokens)


def test_the_example_at_the_top_runs(mtls_client: IssuedCertificate) -> None:
    (code,) = blocks(INTRODUCTION)
    claims = forge.claims(iss="https://as.example", aud="https://api.example", scope="invoices.read")
    text = forge.token(payload={**claims, "cnf": {"x5t#S256": mtls_client.thumbprint}})
    request = Request(tls=mtls_client, headers=[("Authorization", f"Bearer {text}")])
    assert send("wsgi", lambda _, app: layers(code, app), request).reached


def test_the_table_lists_the_sections_in_their_order() -> None:
    assert [re.findall(r"\[([^\]]+)\]\(#([^)]+)\)", line)[0] for line in TABLE] == [
        (name, name.lower().replace(" ", "-")) for name in SECTIONS
    ]
    assert len(SECTIONS) == 13


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_has_the_same_parts_and_its_sources(name: str) -> None:
    found = re.findall(r"^\*\*(.*?)\*\*", SECTIONS[name], re.MULTILINE)
    assert found == ["What it writes", "Configuration", "What this gives up", "Bound tokens"]
    writes, _, after = SECTIONS[name].partition("**Configuration**")
    assert "](https://" in writes
    assert "](https://" in after.partition("**Bound tokens**")[2]


def test_every_link_to_another_page_leads_somewhere() -> None:
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", PAGE):
        text = (DOCS / path).read_text("utf-8") if path else PAGE
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
