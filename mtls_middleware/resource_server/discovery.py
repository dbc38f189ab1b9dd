"""`DiscoveredKeys`: fetches an issuer's metadata and the keys at its `jwks_uri` (RFC 8414, OpenID Connect Discovery).

The configuration says which of the two metadata documents is fetched. There is no fallback to the other one.
"""

import ssl
from collections.abc import Callable, Mapping
from typing import Literal

from mtls_middleware.effects.flow import Flow
from mtls_middleware.effects.remote_document import RemoteDocument, UnusableDocument, check_address
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.json_values import json_document
from mtls_middleware.jwks import FetchedKeys, KeySet
from mtls_middleware.reusable import Check
from mtls_middleware.well_known import append_well_known, insert_well_known

Discovery = Literal["rfc8414", "openid"]

# The address of an issuer's metadata, by standard.
_ADDRESSES: Mapping[str, Callable[[str], str]] = {
    "rfc8414": lambda issuer: insert_well_known(issuer, "oauth-authorization-server"),
    "openid": lambda issuer: append_well_known(issuer, "openid-configuration"),
}
# Characters of a server's value that are logged.
_MAX_LOGGED = 80
# Characters of a `jwks_uri`.
_MAX_URI = 2048


class DiscoveredKeys:
    """The keys of an issuer, found by the issuer's identifier.

    The metadata document and the key set are fetched and refreshed in the same way. A token with an unknown key id
    causes a new fetch of the keys, but not of the document.

    Arguments:
        issuer: an https address without query and fragment. A document is rejected unless its `issuer` is exactly this
            string (RFC 8414 3.3, OpenID Connect Discovery 1.0 4.3).
        discovery: which document to fetch.
        allow_http: accept `http://` for loopback addresses, for the document and for the keys.

    Raises `ConfigurationError`.
    """

    def __init__(self, issuer: str, discovery: Discovery, *, allow_http: bool, tls: ssl.SSLContext | None) -> None:
        if not isinstance(discovery, str) or discovery not in _ADDRESSES:
            expected = "'rfc8414' (/.well-known/oauth-authorization-server) or 'openid' (.../openid-configuration)"
            raise ConfigurationError(f"discovery={discovery!r}: expected {expected}")
        check_address("issuer", issuer, allow_http=allow_http, example="https://as.example")
        if "?" in issuer:
            raise ConfigurationError(
                f"issuer={issuer!r}: expected an address without query (RFC 8414 2), for example 'https://as.example'"
            )
        self._issuer, self._allow_http = issuer, allow_http
        self._tls = tls or ssl.create_default_context()
        self._keys: FetchedKeys | None = None  # only `_read` sets it, and it never runs twice at a time
        self._document = RemoteDocument(_ADDRESSES[discovery](issuer), self._read, tls=self._tls, what="discovery")

    def fresh(self, now: float) -> KeySet | None:
        """The keys, if neither they nor the document need a new fetch; otherwise `None`."""
        keys = self._document.fresh(now)
        return None if keys is None else keys.fresh(now)

    def current(self, now: float) -> Flow[KeySet]:
        """The keys that the issuer has now. Raises `Unavailable` if the document or the keys cannot be fetched."""
        keys = yield from self._document.current(now)
        return (yield from keys.current(now))

    def refreshed(self, now: float, key_id: str | None) -> Flow[KeySet]:
        """The keys after another fetch, unless the last fetch was too recent. Raises `Unavailable`."""
        keys = yield from self._document.current(now, join=True)  # a new document may have a new jwks_uri
        return (yield from keys.refreshed(now, key_id))

    def checks(self, keys: KeySet) -> tuple[Check, ...]:
        """Checks that tell whether these are still the issuer's keys."""
        return (lambda now: self.fresh(now) is keys,)

    def _read(self, text: bytes) -> FetchedKeys:
        """The keys at the document's `jwks_uri`. `signed_metadata` is ignored (RFC 8414 2.1 allows this)."""
        document = json_document(text)
        if not isinstance(document, dict):
            raise UnusableDocument("it is not a JSON object")
        issuer = document.get("issuer")
        if issuer != self._issuer:
            found = ascii(issuer[:_MAX_LOGGED]) if isinstance(issuer, str) else f"of type {type(issuer).__name__}"
            raise UnusableDocument(f"its issuer is {found}; expected exactly {self._issuer!a}, the value of issuer=")
        self._keys = self._keys_at(document.get("jwks_uri"))
        return self._keys

    def _keys_at(self, uri: object) -> FetchedKeys:
        if not isinstance(uri, str) or len(uri) > _MAX_URI:
            raise UnusableDocument(f"it has no jwks_uri, or one that is not a string of at most {_MAX_URI} characters")
        try:
            if self._keys is not None:
                return self._keys.with_uri(uri)
            return FetchedKeys(uri, allow_http=self._allow_http, tls=self._tls)
        except ConfigurationError:
            raise UnusableDocument("its jwks_uri is not an https address without user and fragment") from None
