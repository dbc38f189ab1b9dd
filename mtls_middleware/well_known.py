"""Where the document of an issuer or a resource is found: RFC 8414 3, RFC 9728 3, OpenID Connect Discovery 1.0 4.

Must never know: what is in the document, or whether anybody may fetch from there.
"""

from urllib.parse import urlsplit, urlunsplit


def inserted(identifier: str, name: str) -> str:
    """The well-known path between host and path, as RFC 8414 and RFC 9728 have it.

    Example: `inserted("https://as.example/tenant", "oauth-authorization-server")` is
    `"https://as.example/.well-known/oauth-authorization-server/tenant"`.
    """
    parts = urlsplit(identifier)
    return urlunsplit((parts.scheme, parts.netloc, f"/.well-known/{name}{parts.path.rstrip('/')}", parts.query, ""))


def appended(identifier: str, name: str) -> str:
    """The well-known path after the whole identifier, as OpenID Connect Discovery has it.

    Example: `appended("https://as.example/tenant", "openid-configuration")` is
    `"https://as.example/tenant/.well-known/openid-configuration"`.
    """
    return f"{identifier.rstrip('/')}/.well-known/{name}"
