"""Creates the well-known URLs of issuers and resources (RFC 8414 3, RFC 9728 3, OpenID Connect Discovery 1.0 4).

This module performs no I/O.
"""

from urllib.parse import urlsplit, urlunsplit


def insert_well_known(identifier: str, name: str) -> str:
    """Insert the well-known path between the host and the path of a URL, as RFC 8414 and RFC 9728 define.

    Example: `insert_well_known("https://as.example/tenant", "oauth-authorization-server")` is
    `"https://as.example/.well-known/oauth-authorization-server/tenant"`.
    """
    parts = urlsplit(identifier)
    return urlunsplit((parts.scheme, parts.netloc, f"/.well-known/{name}{parts.path.rstrip('/')}", parts.query, ""))


def append_well_known(identifier: str, name: str) -> str:
    """Append the well-known path to the URL `identifier`, as OpenID Connect Discovery defines.

    Example: `append_well_known("https://as.example/tenant", "openid-configuration")` is
    `"https://as.example/tenant/.well-known/openid-configuration"`.
    """
    return f"{identifier.rstrip('/')}/.well-known/{name}"
