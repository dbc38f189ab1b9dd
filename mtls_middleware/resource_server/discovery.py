"""`DiscoveredKeys`: the keys behind the `jwks_uri` that an issuer's own document names (RFC 8414, OpenID Connect).

Must never know: a token. Which document to ask for is configured, and one that is not there is never made up for by
another.
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

# Where the document of an issuer is, by the name of the standard that says so.
_ADDRESSES: Mapping[str, Callable[[str], str]] = {
    "rfc8414": lambda issuer: insert_well_known(issuer, "oauth-authorization-server"),
    "openid": lambda issuer: append_well_known(issuer, "openid-configuration"),
}
# Characters of what a server said that go into the log, and those of an address that it may name.
_SHOWN, _LONGEST = 80, 2048


class DiscoveredKeys:
    """Keys of an issuer that is known by its name alone.

    Its document is fetched and renewed as key sets are, and so are the keys at the address in it. An unknown key id
    makes us look for keys again, never for the document.

    Arguments:
        issuer: an https address without query and fragment. The document's `issuer` must be this one, code point by
            code point (RFC 8414 3.3, OpenID Connect Discovery 1.0 4.3), or it is of no use.
        discovery: which document to ask for.
        allow_http: admit `http://` to loopback addresses, for the document and for the keys.

    Raises `ConfigurationError`.
    """

    def __init__(self, issuer: str, discovery: Discovery, *, allow_http: bool, tls: ssl.SSLContext | None) -> None:
        if not isinstance(discovery, str) or discovery not in _ADDRESSES:
            expected = "'rfc8414' (/.well-known/oauth-authorization-server) or 'openid' (.../openid-configuration)"
            raise ConfigurationError(f"discovery={discovery!r}: expected {expected}")
        check_address("issuer", issuer, allow_http=allow_http, example="https://as.example")
        if "?" in issuer:
            raise ConfigurationError(f"issuer={issuer!r}: without query (RFC 8414 2), for example 'https://as.example'")
        self._issuer, self._allow_http = issuer, allow_http
        self._tls = tls or ssl.create_default_context()
        self._keys: FetchedKeys | None = None  # touched by _read alone, which runs once at a time
        self._document = RemoteDocument(_ADDRESSES[discovery](issuer), self._read, tls=self._tls, what="discovery")

    def fresh(self, now: float) -> KeySet | None:
        """The keys, where nobody need look for others, or for another document."""
        keys = self._document.fresh(now)
        return None if keys is None else keys.fresh(now)

    def current(self, now: float) -> Flow[KeySet]:
        """The keys that the issuer has now. Raises `Unavailable`, also for want of the document."""
        keys = yield from self._document.current(now)
        return (yield from keys.current(now))

    def refreshed(self, now: float, key_id: str | None) -> Flow[KeySet]:
        """The keys after one more look, where the cool-down allows it. Raises `Unavailable`."""
        keys = yield from self._document.current(now, join=True)  # which may lead to where the key is
        return (yield from keys.refreshed(now, key_id))

    def checks(self, keys: KeySet) -> tuple[Check, ...]:
        """How to look up whether these are still the issuer's keys."""
        return (lambda now: self.fresh(now) is keys,)

    def _read(self, text: bytes) -> FetchedKeys:
        """What the document says of keys. `signed_metadata` is not read (RFC 8414 2.1 leaves that open)."""
        document = json_document(text)
        if not isinstance(document, dict):
            raise UnusableDocument("it is not a JSON object")
        said = document.get("issuer")
        if said != self._issuer:
            shown = ascii(said[:_SHOWN]) if isinstance(said, str) else f"of type {type(said).__name__}"
            raise UnusableDocument(f"its issuer is {shown}, expected exactly {self._issuer!a}, which is issuer= here")
        self._keys = self._keys_at(document.get("jwks_uri"))
        return self._keys

    def _keys_at(self, uri: object) -> FetchedKeys:
        if not isinstance(uri, str) or len(uri) > _LONGEST:
            raise UnusableDocument("no jwks_uri in it that is an address")
        try:
            if self._keys is not None:
                return self._keys.with_uri(uri)
            return FetchedKeys(uri, allow_http=self._allow_http, tls=self._tls)
        except ConfigurationError:
            raise UnusableDocument("its jwks_uri is not a plain https address without user and fragment") from None
