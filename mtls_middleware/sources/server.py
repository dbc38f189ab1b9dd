"""`ServerTLS`: reads the client certificate from the data that the server itself reports about the TLS connection.

The data are the ASGI TLS extension, the variables of mod_ssl and uWSGI, and the TLS socket. Header fields are not read:
only the server can set `SSL_CLIENT_CERT`, but a client can set `HTTP_SSL_CLIENT_CERT`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.request import RequestView, TLSFacts
from mtls_middleware.sources import leaf_and_chain
from mtls_middleware.sources.encoding import MAX_FIELD, pem_der
from mtls_middleware.sources.source import Absence

# The environ keys under which a server passes its socket, which is an `ssl.SSLSocket` or has the same methods.
SOCKET_KEYS = ("gunicorn.socket", "werkzeug.socket")

_CHAIN_KEY = re.compile(r"SSL_CLIENT_CERT_CHAIN_(\d{1,3})")


class ServerTLS:
    """Reads the client certificate from a server that terminates TLS itself, without a proxy.

    Under ASGI, the source reads the TLS extension (0.2, and 0.3 as proposed). Under WSGI, it reads `gunicorn.socket`,
    `werkzeug.socket`, mod_ssl's `SSL_CLIENT_*`, and uWSGI's `HTTPS_CC` and `HTTPS_CLIENT_CERTIFICATE`. If several of
    these are present, they must contain the same certificate.

    The certificate is `BY_SERVER` if the server reports that it verified the certificate, or if the server never
    accepts an unverified certificate (gunicorn, werkzeug, uWSGI). `SSL_CLIENT_CERT` without `SSL_CLIENT_VERIFY=SUCCESS`
    is `PRESENTED`.

    Example: `ClientCertificateMiddleware(app, ServerTLS(), required=True)`
    """

    is_reusable = True
    can_verify = True
    drop_headers: frozenset[str] = frozenset()
    vary: str | None = None
    reads_peer = False
    reads_tls = True

    def find(self, view: RequestView) -> ClientCertificate | None:
        """Return the client certificate, or `None` if the client presented no certificate.

        Raises `MalformedCertificate` if the certificate cannot be read, or if the server's data contradict each other.
        """
        return read(view.tls, view.now)

    def absence(self, view: RequestView) -> Absence:
        """Return why `find` returns no certificate for this request."""
        tls = view.tls
        behind = "behind a proxy, use the source for that proxy instead of ServerTLS()"
        if tls.environ is not None:
            return Absence(
                "the server reports no client certificate in the environ",
                "let the server request one (gunicorn: --ca-certs ca.pem --cert-reqs 1; mod_wsgi: SSLVerifyClient and "
                f"SSLOptions +ExportCertData); {behind}",
            )
        if tls.extension is None:
            return Absence(
                "the server provides no ASGI TLS extension",
                "serve https with a server that provides it, for example uvicorn with "
                f"--http mtls_middleware.servers.uvicorn_tls:H11, or hypercorn or daphne with our classes; {behind}",
            )
        return Absence(
            "the client presented no certificate in the TLS handshake",
            "let the server request one (uvicorn: --ssl-ca-certs ca.pem --ssl-cert-reqs 1), and give the client a "
            f"certificate of such a CA; {behind}",
        )

    def __repr__(self) -> str:
        return "ServerTLS()"


def read(facts: TLSFacts, now: float) -> ClientCertificate | None:
    """Return the certificate that the peer of this connection presented, or `None` if it presented no certificate.

    `now`: seconds since the epoch.
    """
    if facts.extension is not None:
        return _from_extension(facts.extension, now)
    if facts.environ is None:
        return None
    certificates = [found for found in (read(facts.environ, now) for read in _ENVIRON_READERS) if found is not None]
    if any(certificate != certificates[0] for certificate in certificates[1:]):
        raise MalformedCertificate("the server reports two different client certificates")
    return certificates[0] if certificates else None


def tls_identity(facts: TLSFacts) -> tuple[object, ...] | None:
    """Return every value that `read` depends on, as a hashable key, or `None` if a value has an unexpected type."""
    if facts.extension is not None:
        values = _extension_values(facts.extension)
    elif facts.environ is not None:
        values = _environ_values(facts.environ)
    else:
        return ()
    if values is None or not all(isinstance(value, (str, bytes, type(None))) for value in values):
        return None
    return values


def tls_only(facts: TLSFacts) -> TLSFacts:
    """Return a copy of `facts` with only the values that `read` uses, without header fields, path and cipher."""
    tls, environ, _ = facts
    if isinstance(tls, Mapping):
        tls = {key: tls[key] for key in _EXTENSION_KEYS if key in tls}
    if environ is not None:
        environ = {key: environ[key] for key in environ if key in _READ or _CHAIN_KEY.fullmatch(key)}
    return TLSFacts(tls, environ)


def _extension_values(tls: Mapping[str, Any]) -> tuple[object, ...] | None:
    if not isinstance(tls, Mapping):
        return None
    chain = tls.get("client_cert_chain") or ()
    # A generator can be read only once, so it cannot be part of a key.
    if not isinstance(chain, (tuple, list)) or len(chain) > _MAX_CACHED_CHAIN:
        return None
    return (tls.get("client_cert"), tls.get("client_cert_error"), *chain)


def _environ_values(environ: Mapping[str, Any]) -> tuple[object, ...] | None:
    values = [environ.get(key) for key in _ENVIRON_KEYS]
    if values[0]:  # with SSL_CLIENT_CERT, the chain is in numbered keys
        for key in sorted(key for key in environ if _CHAIN_KEY.fullmatch(key)):
            values += [key, environ[key]]
    for key in SOCKET_KEYS:
        if (socket := environ.get(key)) is not None:
            values += ["socket", *(_peer_certificates(socket) or ())]
    return tuple(values)


_EXTENSION_KEYS = ("client_cert", "client_cert_error", "client_cert_chain")
_ENVIRON_KEYS = ("SSL_CLIENT_CERT", "SSL_CLIENT_VERIFY", "HTTPS_CC", "HTTPS_CLIENT_CERTIFICATE")
_READ = frozenset((*SOCKET_KEYS, *_ENVIRON_KEYS))

_END = object()

# Maximum number of characters of one certificate in a chain: more than OpenSSL accepts from a client (100 kB of DER).
_MAX_CHAIN_PEM = 2 * MAX_FIELD
# Maximum number of certificates in the key of a cached decision. Real chains have one to four.
_MAX_CACHED_CHAIN = 16


def _from_extension(tls: Mapping[str, Any], now: float) -> ClientCertificate | None:
    """Read the certificate from the ASGI TLS extension.

    Every key may be absent. Only newer servers set `client_cert` (DER). Raises `MalformedCertificate`.
    """
    if not isinstance(tls, Mapping):
        raise MalformedCertificate(f"the TLS extension is a {type(tls).__name__}; expected a mapping")
    try:
        pems = iter(tls.get("client_cert_chain") or ())
    except TypeError as error:
        raise MalformedCertificate("client_cert_chain of the TLS extension is not iterable") from error
    leaf = tls.get("client_cert")
    if leaf is not None and not isinstance(leaf, bytes):
        raise MalformedCertificate("client_cert of the TLS extension is not bytes")
    # `None` means "verified" in the specification. Any other value, even an empty string, means "not verified".
    verification = Verification.BY_SERVER if tls.get("client_cert_error") is None else Verification.PRESENTED
    first = next(pems, _END)
    if first is _END:
        # `client_cert_name` is not enough: a name without a certificate cannot be checked.
        return leaf_and_chain.load(leaf, (), verification, now) if leaf else None
    certificate = _load_pem(first, pems, verification, now)
    if leaf is not None and leaf != certificate.der:
        raise MalformedCertificate("client_cert and client_cert_chain of the TLS extension have different leaves")
    return certificate


def _pem_string(value: object, largest: int) -> str:
    if not isinstance(value, str) or len(value) > largest:
        raise MalformedCertificate(f"a certificate from the server is not a PEM string of at most {largest} characters")
    return value


def _from_socket(environ: Mapping[str, Any], now: float) -> ClientCertificate | None:
    """Read the certificate from the TLS socket. Python's `ssl` returns only certificates that it has verified."""
    for key in SOCKET_KEYS:
        certificates = _peer_certificates(environ.get(key))
        if certificates is not None:
            return leaf_and_chain.load(certificates[0], certificates[1:], Verification.BY_SERVER, now)
    return None


def _peer_certificates(socket: Any) -> tuple[bytes, ...] | None:
    """Return the leaf and the chain that the peer of a TLS socket presented, or `None` without a certificate."""
    read_peer = getattr(socket, "getpeercert", None)
    if read_peer is None:
        return None
    try:
        leaf = read_peer(True)
    except (ValueError, OSError):
        # These exceptions mean that the handshake is not complete, or that the connection is closed.
        return None
    if not isinstance(leaf, bytes) or not leaf:
        return None
    chain = tuple(der for der in presented_chain(socket) if isinstance(der, bytes))
    return leaf, *(chain[1:] if chain[:1] == (leaf,) else chain)


def presented_chain(socket: Any) -> tuple[bytes, ...]:
    """Return the chain as the peer sent it, the leaf first. The result is empty if the chain cannot be read.

    `get_unverified_chain` is a public method since Python 3.13. In older versions, only the private attribute `_sslobj`
    has this method.
    """
    public = getattr(socket, "get_unverified_chain", None)
    try:
        if public is not None:
            return tuple(public())
        private = getattr(getattr(socket, "_sslobj", None), "get_unverified_chain", None)
        return () if private is None else tuple(each.public_bytes(_ENCODING_DER) for each in private() or ())
    except (ValueError, OSError, AttributeError, TypeError):
        return ()  # the chain is optional, so the leaf is used without it


# The value of `ssl._ssl.ENCODING_DER`, the argument of `public_bytes` for certificates of `_sslobj`.
_ENCODING_DER = 2


def _from_mod_ssl(environ: Mapping[str, Any], now: float) -> ClientCertificate | None:
    """Read the certificate from mod_ssl's variables. Only the word SUCCESS means that the chain is verified.

    cheroot and werkzeug set the same variables as mod_ssl. Raises `MalformedCertificate`.
    """
    pem = environ.get("SSL_CLIENT_CERT")
    word = environ.get("SSL_CLIENT_VERIFY")
    if not pem:  # mod_wsgi sets an empty string if the client presented no certificate
        if word == "SUCCESS":
            raise MalformedCertificate(
                "SSL_CLIENT_VERIFY is SUCCESS, but SSL_CLIENT_CERT is not set; expected SSLOptions +ExportCertData"
            )
        return None
    if word == "NONE":
        raise MalformedCertificate("SSL_CLIENT_VERIFY is NONE, but SSL_CLIENT_CERT has a certificate")
    numbered = sorted((int(match[1]), key) for key in environ if (match := _CHAIN_KEY.fullmatch(key)))
    chain = (environ[key] for _, key in numbered if environ[key])
    verification = Verification.BY_SERVER if word == "SUCCESS" else Verification.PRESENTED
    return _load_pem(pem, chain, verification, now)


def _from_uwsgi(environ: Mapping[str, Any], now: float) -> ClientCertificate | None:
    """Read the certificate from uWSGI's variables, which contain PEM, and DER decoded as latin-1.

    The certificate is verified, because uWSGI closes a connection if the verification fails. Raises
    `MalformedCertificate`.
    """
    pem, der = environ.get("HTTPS_CC"), environ.get("HTTPS_CLIENT_CERTIFICATE")
    from_pem = _load_pem(pem, (), Verification.BY_SERVER, now) if pem else None
    if not der:
        return from_pem
    try:
        from_der = leaf_and_chain.load(der.encode("latin-1"), (), Verification.BY_SERVER, now)
    except (UnicodeEncodeError, AttributeError) as error:
        raise MalformedCertificate("HTTPS_CLIENT_CERTIFICATE is not DER") from error
    if from_pem is not None and from_pem != from_der:
        raise MalformedCertificate("HTTPS_CC and HTTPS_CLIENT_CERTIFICATE contain different certificates")
    return from_der


_ENVIRON_READERS = (_from_socket, _from_mod_ssl, _from_uwsgi)


def _load_pem(leaf: object, chain: Iterable[object], verification: Verification, now: float) -> ClientCertificate:
    """Load a leaf and its chain, one PEM string each. The chain is decoded only up to its limit."""
    return leaf_and_chain.load(
        pem_der(_pem_string(leaf, MAX_FIELD)),
        (pem_der(_pem_string(each, _MAX_CHAIN_PEM)) for each in chain),
        verification,
        now,
    )
