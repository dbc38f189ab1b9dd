"""The form and the type of a JWT access token: RFC 7515, RFC 8725 3.11."""

import json
from typing import Any

import pytest

from tests.resource_server import forge
from tests.resource_server.handmade_tokens import refused, with_header


@pytest.mark.standard("H17", "H19")
def test_what_is_not_three_parts_of_unpadded_base64url_is_refused() -> None:
    text = forge.token()
    header, payload, signature = text.split(".")
    flattened = json.dumps({"protected": header, "payload": payload, "signature": signature})
    forms = [
        f"{text}=",
        f"{header}=.{payload}.{signature}",
        f"{text}.",
        f".{text}",
        f"{text}.AA.AA",
        f"{header}.{payload}",
    ]
    forms += [
        f"{header}..{signature}",
        flattened,
        text.replace(".", ".."),
        text + "\n",
        text + " ",
        text + "é",
        "",
        ".",
    ]
    forms += [f"{header}.{payload}.{signature[:-1]}+", f"A.{payload}.{signature}", f"{header}.A.{signature}"]
    for form in forms:
        assert refused(form), form


@pytest.mark.standard("H17")
def test_nonzero_pad_bits_are_rejected_even_if_signed() -> None:
    claims = json.dumps(forge.claims()).encode()
    header, payload = forge.signing_input(forge.HEADER, claims + b" " * ((1 - len(claims)) % 3)).split(".")
    assert len(payload) % 4 == 2
    spelled = payload[:-1] + chr(ord(payload[-1]) + 1)
    for each in (payload, spelled):
        signed = f"{header}.{each}"
        found = refused(f"{signed}.{forge.base64url(forge._ES256.sign(signed.encode('ascii'), forge.KEY))}")
        assert found is (each == spelled)


def test_each_validator_checks_a_jwt_header_by_its_own_settings() -> None:
    text = forge.token()
    assert not refused(text)
    assert refused(text, algorithms=["PS256"])
    assert refused(text, typ=["JWT"])
    assert not refused(text)


@pytest.mark.standard("H17")
@pytest.mark.parametrize(
    "raw",
    [
        json.dumps(forge.claims()).encode("utf-16"),
        json.dumps(forge.claims()).encode("utf-8-sig"),
        json.dumps(forge.claims()).encode("utf-32"),
        forge.with_member('"sub": "user", "sub": "admin"').encode(),
        forge.with_member('"iss": "https://attacker.test", "iss": "https://issuer.test"').encode(),
        forge.with_member('"s\\u0075b": "user", "sub": "admin"').encode(),
        forge.with_member('"deep": {"a": 1, "a": 2}').encode(),
        forge.with_member('"x": NaN').encode(),
        forge.with_member('"sub": "\udcff"').encode("utf-8", "surrogateescape"),
        forge.with_member('"x": ' + "[" * 4000 + "]" * 4000).encode(),
        forge.with_member('"x": ' + "1" * 5000).encode(),
        forge.with_member('"x": 01').encode(),
        json.dumps(forge.claims()).encode() + b"{}",
        json.dumps(forge.claims()).encode() + b"\0",
        b"[]",
        b'"text"',
        b"null",
        b"{",
        b"\xff\xfe",
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_claims_that_are_not_one_plain_json_object_in_utf_8_are_refused(raw: bytes) -> None:
    assert refused(forge.token(payload=raw))


@pytest.mark.standard("H17")
@pytest.mark.parametrize(
    "raw",
    [
        b'{"alg":"none","alg":"ES256","typ":"at+jwt"}',
        b'{"typ":"JWT","typ":"at+jwt","alg":"ES256"}',
        b"[]",
        b"1",
        b"{",
        b"\xff",
        json.dumps(forge.HEADER).encode("utf-16"),
        b'{"typ":"at+jwt","alg":"ES256","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_a_header_that_is_not_one_plain_json_object_is_refused(raw: bytes) -> None:
    assert refused(forge.token(raw))


@pytest.mark.standard("H1", "H2")
@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "at+JWT", "application/at+jwt", "Application/AT+jwt"])
def test_typ_is_a_media_type_and_compared_without_case(typ: str) -> None:
    assert not refused(with_header(typ=typ))


@pytest.mark.standard("F14", "H1", "H18")
@pytest.mark.parametrize(
    "typ",
    [
        ...,
        "JWT",
        "jwt",
        "",
        "at",
        "jwt+at",
        "at+jwt ",
        "text/at+jwt",
        "application/application/at+jwt",
        "at+jwt;q=1",
        "dpop+jwt",
        "token-introspection+jwt",
        "logout+jwt",
        "id_token",
        "client-authentication+jwt",
        None,
        1,
        ["at+jwt"],
        "at+jwt\0",
        "at+\u212awt",
    ],
)
def test_any_other_type_is_not_an_access_token(typ: Any) -> None:
    assert refused(with_header(typ=typ))
