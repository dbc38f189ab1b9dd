"""JSON that others wrote: one reader for all documents, with one limit of depth and linear work."""

import ast
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mtls_middleware
from mtls_middleware import ConfigurationError
from mtls_middleware.errors import Refused, Unavailable
from mtls_middleware.json_values import MAX_NESTING, excerpt, json_document, json_object, json_value
from mtls_middleware.jwks import KeySet, parse_text
from mtls_middleware.resource_server import MemoryAnswers
from mtls_middleware.resource_server.discovery import DiscoveredKeys
from mtls_middleware.testing import TokenIssuer
from mtls_middleware.token_endpoint.registered_certificates import RegisteredCertificates
from mtls_middleware.validation import SpiffeTrust
from mtls_middleware.validation.spiffe_bundles import read_jwks
from tests.introspection_server import IntrospectionServer
from tests.resource_server import forge
from tests.resource_server.introspection import TOKEN, active, asking, validate

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("b\u00fc\n", "'b\\xfc\\n'"), (7, "7"), (True, "True"), (None, "None"), ([1], "of type list")],
)
def test_a_value_is_shown_in_ascii_or_by_its_type(value: object, expected: str) -> None:
    assert excerpt(value) == expected


@given(JSON)
def test_a_value_in_a_message_is_short_and_printable(value: Any) -> None:
    for each in (value, [value] * 100, "\U0010ffff" * 100, 10**999):
        assert len(excerpt(each)) <= 802
        assert excerpt(each).isascii()
        assert excerpt(each).isprintable()


@given(JSON)
def test_what_is_json_is_read_as_json(value: Any) -> None:
    assert json_value(json.dumps(value).encode()) == value
    assert json_value(json.dumps(value, ensure_ascii=False)) == value


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("inner", ["{}", nested(1), '"]"', '"\\"]"', '"\\\\", [0]'])
def test_depth_is_counted_by_brackets_outside_of_strings(inner: str) -> None:
    deep = 1 if "[" in inner.replace('"]"', "") or "{" in inner else 0
    for depth, readable in ((MAX_NESTING - deep, True), (MAX_NESTING - deep + 1, False)):
        data = ("[" * depth + inner + "]" * depth).encode()
        if readable:
            assert json_value(data) is not None
        else:
            with pytest.raises(ValueError, match="nested too deeply: expected at most 64"):
                json_value(data)


def test_many_flat_brackets_are_not_deep() -> None:
    assert len(json_value(b"[" + b",".join([b'{"a":[]}'] * 20_000) + b"]")) == 20_000
    assert json_value(b'["' + b"[" * 10_000 + b'"]') == ["[" * 10_000]


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'[{"a":{"b":1,"b":1}}]',
        b"NaN",
        b"[-Infinity]",
        b"9" * 1_001,
        b"\xff",
        b'"\xed\xa0\x80"',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b"",
        b"{} {}",
        b'"' + b"\\",
        "\ud800",
    ],
)
def test_what_parsers_read_differently_is_rejected(data: bytes | str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        json_value(data)


def test_a_document_may_begin_with_a_byte_order_mark() -> None:
    assert json_document(b'\xef\xbb\xbf{"a":1}') == json_document('\ufeff{"a":1}') == {"a": 1}
    with pytest.raises(ValueError, match=r"\S"):
        json_document(b"\xef\xbb\xbf" * 2 + b"{}")


@pytest.mark.parametrize("unit", [b"[", b"]", b'{"a":', b'"', b'\\"', b'"\\', b"\\", b'""', b"[]", b'"[', b"9", b"[1,"])
def test_nothing_raises_another_exception(unit: bytes) -> None:
    for start in (b"", b"[" * 70, b'"', b"\\"):
        data = (start + unit * 262_144)[:262_144]
        with pytest.raises(ValueError, match=r"\S"):
            json_object(data)


# --- Each kind of document

ISSUER = TokenIssuer()


def bundle_file(text: str, folder: Path) -> None:
    (folder / "bundle.json").write_text(text)
    SpiffeTrust({"acme.internal": [str(folder / "bundle.json")]})


def metadata(text: str) -> None:
    DiscoveredKeys("https://as.test", "rfc8414", allow_http=False, tls=None)._read(text.encode())


READERS: dict[str, Callable[[str], object]] = {
    "JWK Set": parse_text,
    "client's JWK Set": partial(RegisteredCertificates.parse_text, "a client"),
    "SPIFFE bundle": lambda text: read_jwks(text.encode()),
    "metadata": metadata,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("depth", [MAX_NESTING + 1, 500, 2_000, 100_000])
def test_a_deeply_nested_document_raises_the_documented_error(reader: str, depth: int) -> None:
    for data in (nested(depth), f'{{"keys":{nested(depth)}}}', f'{{"keys":[{{"x5c":{nested(depth)}}}]}}'):
        with pytest.raises(ValueError, match="nested too deeply"):
            READERS[reader](data)


def test_a_deeply_nested_bundle_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"bundle\.json"):
        bundle_file(f'{{"keys":{nested(100_000)}}}', tmp_path)


@pytest.mark.parametrize(("depth", "accepted"), [(MAX_NESTING - 1, True), (MAX_NESTING, False), (3_000, False)])
def test_the_same_depth_of_a_token_is_accepted_on_every_python(depth: int, accepted: bool) -> None:
    text = forge.token(payload=forge.with_member(f'"deep": {nested(depth)}'))
    if accepted:
        assert forge.validate(forge.access_tokens(), text).claims["deep"] is not None
    else:
        with pytest.raises(Refused) as refusal:
            forge.validate(forge.access_tokens(), text)
        assert "nested too deeply" in str(refusal.value.evidence)


@pytest.mark.parametrize(("depth", "accepted"), [(MAX_NESTING - 1, True), (MAX_NESTING, False), (3_000, False)])
def test_the_same_depth_of_an_introspection_response_is_accepted(depth: int, accepted: bool) -> None:
    with IntrospectionServer(
        {TOKEN: json.dumps(active())[:-1].encode() + f', "deep": {nested(depth)}}}'.encode()}
    ) as server:
        for cache in (None, MemoryAnswers()):
            if accepted:
                assert validate(asking(server, cache=cache)).claims["deep"] is not None
            else:
                with pytest.raises(Unavailable, match="nested too deeply"):
                    validate(asking(server, cache=cache))


def test_no_other_module_parses_untrusted_json() -> None:
    """`django_toolkit` reads what django-oauth-toolkit has just written."""
    root = Path(mtls_middleware.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if ast.unparse(node) in ("json.loads", "json.load", "json.JSONDecoder"):
                found.add(path.relative_to(root).as_posix())
    assert found == {"json_values.py", "integrations/django_toolkit.py"}


# --- Many entries


@pytest.mark.parametrize("parse", [KeySet.parse, RegisteredCertificates.parse])
def test_a_document_causes_six_log_lines_at_most(
    parse: Callable[[object], object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    parse({"keys": [0] * 200})
    assert len(caplog.records) == 6
    assert "195 more keys are ignored" in caplog.text
    caplog.clear()
    parse({"keys": [{}] * 5})
    assert len(caplog.records) == 5


@pytest.mark.parametrize("parse", [parse_text, partial(RegisteredCertificates.parse_text, "a client")])
def test_a_set_of_too_many_keys_is_rejected_with_no_log_line(
    parse: Callable[[str], object], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match="a JWK Set of 131001 keys: expected at most 200"):
        parse('{"keys":[' + "0," * 131_000 + "0]}")
    assert caplog.records == []


def test_two_hundred_keys_are_read() -> None:
    key = dict(ISSUER.jwks["keys"][0])
    keys = parse_text(json.dumps({"keys": [{**key, "kid": str(number)} for number in range(200)]}))
    assert len(keys.keys) == 200
