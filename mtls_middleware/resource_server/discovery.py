"""`DiscoveredKeys`: fetches an issuer's metadata and the keys at its `jwks_uri` (RFC 8414, OpenID Connect Discovery).

The configuration says which of the two metadata documents is fetched. The other document is never fetched.
"""

import ssl
from collections.abc import Callable, Mapping
from typing import Literal

from mtls_middleware.effects.address import check_address
from mtls_middleware.effects.exchange import default_context
from mtls_middleware.effects.flow import Flow
from mtls_middleware.effects.remote_document import RemoteDocument, UnusableDocument
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.json_values import excerpt, json_document
from mtls_middleware.jwks import FetchedKeys, KeySet
from mtls_middleware.reusable import Check
from mtls_middleware.well_known import append_well_known, insert_well_known

Discovery = Literal["rfc8414", "openid"]

# For each standard, the function that returns the URL of an issuer's metadata document.
_ADDRESSES: Mapping[str, Callable[[str], str]] = {
    "rfc8414": lambda issuer: insert_well_known(issuer, "oauth-authorization-server"),
    "openid": lambda issuer: append_well_known(issuer, "openid-configuration"),
}
# Maximum number of characters in a `jwks_uri`.
_MAX_URI = 2048


class DiscoveredKeys:
    """Fetches the keys of an issuer: first the issuer's metadata document, then the key set that it names.

    Both documents are cached and renewed. A token with an unknown key id causes a new fetch of the key set, but not of
    the document.

    Arguments:
        issuer: an https address without query and fragment. A document is rejected unless its `issuer` is exactly this
            string (RFC 8414 3.3, OpenID Connect Discovery 1.0 4.3).
        discovery: the document to fetch: `"rfc8414"` or `"openid"`.
        allow_http: accept `http://` for loopback addresses, for the document and for the keys.
        tls: verifies the servers of the document and the keys. Default: the system's CAs.
        proxy: the URL of an HTTP proxy between this process and these servers.

    Raises `ConfigurationError` if an argument is invalid.
    """

    def __init__(
        self,
        issuer: str,
        discovery: Discovery,
        *,
        allow_http: bool,
        tls: ssl.SSLContext | None,
        proxy: str | None = None,
    ) -> None:
        if not isinstance(discovery, str) or discovery not in _ADDRESSES:
            expected = "'rfc8414' (/.well-known/oauth-authorization-server) or 'openid' (.../openid-configuration)"
            raise ConfigurationError(f"discovery={discovery!r}: expected {expected}")
        check_address("issuer", issuer, allow_http=allow_http, example="https://as.example")
        if "?" in issuer:
            raise ConfigurationError(
                f"issuer={issuer!r}: expected an address without query (RFC 8414 2), for example 'https://as.example'"
            )
        self._issuer, self._allow_http, self._proxy = issuer, allow_http, proxy
        self._tls = tls or default_context()
        # Only `_read` sets this attribute, and two calls of `_read` never run at the same time.
        self._keys: FetchedKeys | None = None
        address = _ADDRESSES[discovery](issuer)
        self._document = RemoteDocument(address, self._read, tls=self._tls, what="discovery", proxy=proxy)

    def fresh(self, now: float) -> KeySet | None:
        """Return the cached keys, or `None` if the keys or the document must be fetched."""
        keys = self._document.fresh(now)
        return None if keys is None else keys.fresh(now)

    def current(self, now: float) -> Flow[KeySet]:
        """Return the issuer's keys. If no keys are cached, or the cached keys are old, they are fetched first.

        Raises `Unavailable` if the document or the keys cannot be fetched.
        """
        keys = yield from self._document.current(now)
        return (yield from keys.current(now))

    def refreshed(self, now: float, key_id: str | None) -> Flow[KeySet]:
        """Return the issuer's keys after a new fetch. If the last fetch was too recent, return the cached keys.

        `key_id`: the unknown key id of a token. Raises `Unavailable` if no keys can be fetched.
        """
        # Wait for a document that is being renewed, because it may have a new jwks_uri.
        keys = yield from self._document.current(now, join=True)
        return (yield from keys.refreshed(now, key_id))

    def checks(self, keys: KeySet) -> tuple[Check, ...]:
        """Return functions that check whether `keys` are still the issuer's current keys."""
        return (lambda now: self.fresh(now) is keys,)

    def _read(self, text: bytes) -> FetchedKeys:
        """Parse the metadata document, and return an object that fetches the keys from its `jwks_uri`.

        `signed_metadata` is ignored (RFC 8414 2.1 allows this). Raises `UnusableDocument`.
        """
        document = json_document(text)
        if not isinstance(document, dict):
            raise UnusableDocument("it is not a JSON object")
        issuer = document.get("issuer")
        if issuer != self._issuer:
            raise UnusableDocument(
                f"its issuer is {excerpt(issuer)}; expected exactly {self._issuer!a}, the value of issuer="
            )
        self._keys = self._keys_at(document.get("jwks_uri"))
        return self._keys

    def _keys_at(self, uri: object) -> FetchedKeys:
        if not isinstance(uri, str) or len(uri) > _MAX_URI:
            raise UnusableDocument(
                f"its jwks_uri is missing or invalid; expected a string of at most {_MAX_URI} characters"
            )
        try:
            if self._keys is not None:
                return self._keys.with_uri(uri)
            return FetchedKeys(uri, allow_http=self._allow_http, tls=self._tls, proxy=self._proxy)
        except ConfigurationError:
            raise UnusableDocument("its jwks_uri is not an https address without user and fragment") from None
