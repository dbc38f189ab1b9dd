"""Where documents are found: the path is put in (RFC 8414, RFC 9728), or put behind (OpenID Connect)."""

import pytest

from mtls_middleware.well_known import append_well_known, insert_well_known


@pytest.mark.standard("C8")
@pytest.mark.parametrize(
    ("issuer", "in_between", "behind"),
    [
        ("https://as.example", "https://as.example/.well-known/x", "https://as.example/.well-known/x"),
        ("https://as.example/", "https://as.example/.well-known/x", "https://as.example/.well-known/x"),
        ("https://as.example/a", "https://as.example/.well-known/x/a", "https://as.example/a/.well-known/x"),
        ("https://as.example/a/", "https://as.example/.well-known/x/a", "https://as.example/a/.well-known/x"),
        ("https://as.example:8443/a/b", "https://as.example:8443/.well-known/x/a/b", "https://as.example:8443/a/b/.well-known/x"),
        ("http://[::1]:80/a%2Fb", "http://[::1]:80/.well-known/x/a%2Fb", "http://[::1]:80/a%2Fb/.well-known/x"),
    ],
)  # fmt: skip
def test_the_document_is_where_the_standard_says(issuer: str, in_between: str, behind: str) -> None:
    assert insert_well_known(issuer, "x") == in_between
    assert append_well_known(issuer, "x") == behind
