"""Creates the credentials for introspection: a client secret (RFC 6749 2.3.1) or a client certificate (RFC 8705 2)."""

import base64
import ssl
from urllib.parse import quote_plus

from mtls_middleware.errors import ConfigurationError


def introspection_credentials(
    endpoint: str, client_id: str, secret: str | None, tls: ssl.SSLContext | None
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Return the form parameters and the header fields that authenticate the client. Raises `ConfigurationError`."""
    if tls is not None:
        if not isinstance(tls, ssl.SSLContext):
            raise ConfigurationError(
                f"ssl_context={tls!r}: expected for example ssl.create_default_context(cafile='as-ca.pem')"
            )
        if tls.verify_mode != ssl.CERT_REQUIRED or not tls.check_hostname:
            raise ConfigurationError("ssl_context must verify the server's certificate and name (RFC 7662 4)")
    if secret is not None:
        if not isinstance(secret, str) or not secret:
            raise ConfigurationError("client_secret is empty or not a string; expected the secret, or None")
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode("ascii")
        return [], {"Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}
    if tls is None or not endpoint.lower().startswith("https:"):
        raise ConfigurationError(
            "no credentials for the introspection endpoint (RFC 7662 2.1): give client_secret=, or an https endpoint "
            "and certificate=CertificateFiles('api.pem', 'api.key')"
        )
    return [("client_id", client_id)], {}
