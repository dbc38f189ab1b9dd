"""What this very server says of the TLS connection: ASGI TLS extension, mod_ssl's and uWSGI's variables, socket.

Must never know: header fields. `SSL_CLIENT_CERT` is the server's word, `HTTP_SSL_CLIENT_CERT` a client's.
"""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from mtls_middleware.cache import Cache
from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.request import RequestView, TLSFacts
from mtls_middleware.sources.encoding import MAX_CHAIN, MAX_FIELD, pem_der

# The environ keys under which a server hands over its socket; each speaks Python's `ssl`.
SOCKET_KEYS = ("gunicorn.socket", "werkzeug.socket")

_CHAIN_KEY = re.compile(r"SSL_CLIENT_CERT_CHAIN_(\d{1,3})")


class ServerTLS:
    """The certificate of the TLS connection that this server itself ended: no proxy, no header, nothing to trust.

    ASGI: the TLS extension (0.2, and 0.3 as proposed). WSGI: `gunicorn.socket` and `werkzeug.socket`, mod_ssl's
    `SSL_CLIENT_*`, uWSGI's `HTTPS_CC` and `HTTPS_CLIENT_CERTIFICATE`. Where several speak they must agree.

    The certificate is `BY_SERVER` where the server says that it verified, or cannot let an unverified one through
    (gunicorn, werkzeug, uWSGI); a bare `SSL_CLIENT_CERT` is `PRESENTED`.

    Example: `ClientCertificateMiddleware(app, ServerTLS(), required=True)`
    """

    is_reusable = True
    can_verify = True
    drop_headers: frozenset[str] = frozenset()
    vary: str | None = None
    reads_peer = False
    reads_tls = True

    def find(self, view: RequestView) -> ClientCertificate | None:
        """The client certificate or `None`. Raises `MalformedCertificate` where the server's facts contradict."""
        return read(view.tls)

    def __repr__(self) -> str:
        return "ServerTLS()"


def read(facts: TLSFacts) -> ClientCertificate | None:
    """The certificate the peer of this connection presented, from whichever gateway's facts there are."""
    if facts.extension is not None:
        return _from_extension(facts.extension)
    if facts.environ is None:
        return None
    claims = [claim for claim in (read(facts.environ) for read in _ENVIRON_READERS) if claim is not None]
    if any(claim != claims[0] for claim in claims[1:]):
        raise MalformedCertificate("the server names two different client certificates")
    return claims[0] if claims else None


def tls_identity(facts: TLSFacts) -> tuple[object, ...] | None:
    """Everything that `read` can depend on, as a hashable key; `None` for values of unusual types."""
    if facts.extension is not None:
        found = _extension_values(facts.extension)
    elif facts.environ is not None:
        found = _environ_values(facts.environ)
    else:
        return ()
    return found if found is not None and all(isinstance(each, (str, bytes, type(None))) for each in found) else None


def tls_only(facts: TLSFacts) -> TLSFacts:
    """The same facts without anything that `tls_identity` leaves out: header fields, the path, the cipher."""
    tls, environ = facts
    if isinstance(tls, Mapping):
        tls = {key: tls[key] for key in _EXTENSION_KEYS if key in tls}
    if environ is not None:
        environ = {key: environ[key] for key in environ if key in _READ or _CHAIN_KEY.fullmatch(key)}
    return TLSFacts(tls, environ)


def _extension_values(tls: Mapping[str, Any]) -> tuple[object, ...] | None:
    if not isinstance(tls, Mapping):
        return None
    chain = tls.get("client_cert_chain") or ()
    if not isinstance(chain, (tuple, list)) or len(chain) > MAX_CHAIN:  # another iterable may be readable only once
        return None
    return (tls.get("client_cert"), tls.get("client_cert_error"), *chain)


def _environ_values(environ: Mapping[str, Any]) -> tuple[object, ...] | None:
    values = [environ.get(key) for key in _ENVIRON_KEYS]
    if values[0]:  # SSL_CLIENT_CERT, which may have a chain in numbered keys
        numbered = sorted(key for key in environ if _CHAIN_KEY.fullmatch(key))
        values += [each for key in numbered for each in (key, environ[key])]
    for key in SOCKET_KEYS:
        if (socket := environ.get(key)) is not None:
            presented = _presented(socket)
            values += ("socket", *(() if presented is None else presented))
    return tuple(values)


_EXTENSION_KEYS = ("client_cert", "client_cert_error", "client_cert_chain")
_ENVIRON_KEYS = ("SSL_CLIENT_CERT", "SSL_CLIENT_VERIFY", "HTTPS_CC", "HTTPS_CLIENT_CERTIFICATE")
_READ = frozenset((*SOCKET_KEYS, *_ENVIRON_KEYS))


def _from_extension(tls: Mapping[str, Any]) -> ClientCertificate | None:
    """ASGI TLS extension: every key may be absent; `client_cert` (DER) as newer servers give it."""
    if not isinstance(tls, Mapping):
        raise MalformedCertificate("the TLS extension is not a mapping")
    try:
        given = list(islice(tls.get("client_cert_chain") or (), MAX_CHAIN + 1))  # any iterable, read once
    except TypeError as error:
        raise MalformedCertificate("client_cert_chain of the TLS extension is not iterable") from error
    chain = [_pem_text(each) for each in given]
    if len(chain) > MAX_CHAIN:
        raise MalformedCertificate(f"more than {MAX_CHAIN} certificates in the TLS extension")
    leaf = tls.get("client_cert")
    if leaf is not None and not isinstance(leaf, bytes):
        raise MalformedCertificate("client_cert of the TLS extension is not bytes")
    # None is the specification's word for "verified"; every other value, also an empty text, is not.
    verification = Verification.BY_SERVER if tls.get("client_cert_error") is None else Verification.PRESENTED
    if not chain:
        # A name alone (client_cert_name) has no bytes to compare with anything.
        return _load(leaf, (), verification) if leaf else None
    certificate = _load_pem(tuple(chain), verification)
    if leaf is not None and leaf != certificate.der:
        raise MalformedCertificate("client_cert and client_cert_chain of the TLS extension disagree")
    return certificate


def _pem_text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_FIELD:
        raise MalformedCertificate("a certificate of the TLS extension is not PEM text of bearable size")
    return value


def _from_socket(environ: Mapping[str, Any]) -> ClientCertificate | None:
    """The TLS socket: Python's `ssl` never hands out a certificate that did not verify."""
    for key in SOCKET_KEYS:
        presented = _presented(environ.get(key))
        if presented is not None:
            return _load(presented[0], presented[1:], Verification.BY_SERVER)
    return None


def _presented(socket: Any) -> tuple[bytes, ...] | None:
    """The leaf and the chain that the peer of a TLS socket presented; `None` if there is no certificate."""
    read_peer = getattr(socket, "getpeercert", None)
    if read_peer is None:
        return None
    try:
        leaf = read_peer(True)
    except (ValueError, OSError):  # the handshake is not complete, or the connection is closed
        return None
    if not isinstance(leaf, bytes) or not leaf:
        return None
    chain = (der for der in presented_chain(socket) if isinstance(der, bytes) and der != leaf)
    return leaf, *islice(chain, MAX_CHAIN)


def presented_chain(socket: Any) -> tuple[bytes, ...]:
    """As sent, leaf first: public since Python 3.13, on the private `_sslobj` before, else empty."""
    public = getattr(socket, "get_unverified_chain", None)
    try:
        if public is not None:
            return tuple(public())
        private = getattr(getattr(socket, "_sslobj", None), "get_unverified_chain", None)
        return tuple(each.public_bytes(_ENCODING_DER) for each in private() or ()) if private is not None else ()
    except (ValueError, OSError, AttributeError, TypeError):
        return ()  # the chain is an extra; the leaf stands on its own


# ssl._ssl.ENCODING_DER, the argument of the certificates behind `_sslobj`.
_ENCODING_DER = 2


def _from_mod_ssl(environ: Mapping[str, Any]) -> ClientCertificate | None:
    """mod_ssl's variables (also cheroot's and werkzeug's): only the word SUCCESS counts as verified."""
    pem = environ.get("SSL_CLIENT_CERT")
    word = environ.get("SSL_CLIENT_VERIFY")
    if not pem:  # absent, or '' as mod_wsgi gives it
        if word == "SUCCESS":
            raise MalformedCertificate(
                "SSL_CLIENT_VERIFY is SUCCESS without SSL_CLIENT_CERT (SSLOptions +ExportCertData)"
            )
        return None
    if word == "NONE":
        raise MalformedCertificate("SSL_CLIENT_VERIFY is NONE beside a certificate")
    numbered = sorted((int(match[1]), key) for key in environ if (match := _CHAIN_KEY.fullmatch(key)))
    chain = tuple(_pem_text(environ[key]) for _, key in numbered[:MAX_CHAIN] if environ[key])
    verification = Verification.BY_SERVER if word == "SUCCESS" else Verification.PRESENTED
    return _load_pem((_pem_text(pem), *chain), verification)


def _from_uwsgi(environ: Mapping[str, Any]) -> ClientCertificate | None:
    """uWSGI's variables: PEM and raw DER (as latin-1); it ends every connection whose certificate does not verify."""
    pem, raw = environ.get("HTTPS_CC"), environ.get("HTTPS_CLIENT_CERTIFICATE")
    by_pem = _load_pem((_pem_text(pem),), Verification.BY_SERVER) if pem else None
    if not raw:
        return by_pem
    try:
        by_der = _load(raw.encode("latin-1"), (), Verification.BY_SERVER)
    except (UnicodeEncodeError, AttributeError) as error:
        raise MalformedCertificate("HTTPS_CLIENT_CERTIFICATE is not DER") from error
    if by_pem is not None and by_pem != by_der:
        raise MalformedCertificate("HTTPS_CC and HTTPS_CLIENT_CERTIFICATE disagree")
    return by_der


_ENVIRON_READERS = (_from_socket, _from_mod_ssl, _from_uwsgi)


# Certificates by everything that they are read from, so that all layers of a process can share them. As in a header
# source: values of at most 16 KiB, in 8 MiB.
_CERTIFICATES: Cache[tuple[object, ...], ClientCertificate] = Cache(8 * 1024 * 1024, largest=16_384)


def _load(leaf: bytes, chain: tuple[bytes, ...], verification: Verification) -> ClientCertificate:
    key = (leaf, chain, verification)
    certificate = _CERTIFICATES.get(key)
    if certificate is None:
        certificate = ClientCertificate.from_der(leaf, chain=chain, verification=verification)
        _CERTIFICATES.put(key, certificate, sum(map(len, chain), len(leaf)))
    return certificate


def _load_pem(pems: tuple[str, ...], verification: Verification) -> ClientCertificate:
    key = (pems, verification)
    certificate = _CERTIFICATES.get(key)
    if certificate is None:
        leaf, *chain = (pem_der(pem) for pem in pems)
        certificate = ClientCertificate.from_der(leaf, chain=tuple(chain), verification=verification)
        _CERTIFICATES.put(key, certificate, sum(map(len, pems)))
    return certificate
