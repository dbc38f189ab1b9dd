"""DER is read by its lengths alone, and anything else is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware.der import read_value, read_values


def written(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


TAGS = st.integers(0, 255).filter(lambda tag: tag & 0x1F != 0x1F)


@given(st.lists(st.tuples(TAGS, st.binary(max_size=300)), max_size=5))
def test_values_are_read_as_they_were_written(values):
    assert list(read_values(b"".join(written(*each) for each in values))) == values


@given(st.binary(max_size=40))
def test_any_bytes_are_values_to_their_end_or_an_error(data):
    try:
        found = list(read_values(data))
    except ValueError:
        return
    assert sum(len(content) for _, content in found) <= len(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x30", b"\x30\x01", b"\x30\x80\x00\x00", b"\x30\x85\x00\x00\x00\x00\x01x", b"\x30\x82\x01", b"\x1f\x01x"],
    ids=["empty", "no length", "truncated", "indefinite", "length of five bytes", "half a length", "long tag"],
)
def test_what_is_not_der_is_an_error(data):
    with pytest.raises(ValueError, match="DER"):
        read_value(data)
