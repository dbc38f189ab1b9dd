"""Certificates, tokens, keys and revocation lists of a run, as JSON data: two processes can share them.

Every time in it is relative to `now`, the time at which the clock of a run begins.
"""

import base64
import hashlib
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware.testing import OMIT, CertificateAuthority, IssuedCertificate, TokenIssuer, self_signed
from tests.validation.authority import crl

Material = dict[str, Any]

ISSUER, OTHER_ISSUER, AUDIENCE = "https://issuer.test", "https://other-issuer.test", "https://api.test"
INTROSPECTING = "https://introspecting.test"
SCOPES = ("read", "write")
# Seconds from the beginning of a run at which something begins or ends.
SHORT, ENDED, LATER, PATH_ENDS, PROXY_ENDS = 200, -100, 150, 400, 300
CRL_BEGAN, CRL_ENDS, CRL_BEGINS, TOKEN_ENDS, TOKEN_BEGINS = -30, 500, 250, 100, 120


def new_material() -> Material:
    """New keys, and everything that they sign."""
    now = int(time.time())
    ca, other_ca = CertificateAuthority(), CertificateAuthority("CN=Other CA,O=Tests")
    people = _people(ca, other_ca, now)
    proxies = [
        ca.issue("CN=proxy,O=Tests"),
        ca.issue("CN=proxy,O=Tests", not_after=_at(now + PROXY_ENDS)),
        ca.issue("CN=intruder,O=Tests"),
    ]
    issuers = [TokenIssuer(), TokenIssuer(OTHER_ISSUER)]
    old_keys = issuers[0].jwks
    tokens = _tokens(issuers, people, now)
    issuers[0].rotate()
    tokens += _tokens(issuers[:1], people[:2], now)
    both_keys = issuers[0].jwks
    issuers[0].retire()
    return {
        "now": now,
        "people": [_written(each) for each in people],
        "proxies": [_written(each) for each in proxies],
        "roots": {"ca": ca.pem, "other": other_ca.pem, "both": ca.pem + other_ca.pem, "broken": ca.pem[:300]},
        "lists": {name: [each.hex() for each in lists] for name, lists in _lists(ca, people, now).items()},
        "keys": {"old": old_keys, "both": both_keys, "new": issuers[0].jwks, "none": {"keys": []}},
        "other keys": issuers[1].jwks,
        "tokens": tokens,
        "answers": _answers(people, now),
    }


def _at(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)


def _people(ca: CertificateAuthority, other_ca: CertificateAuthority, now: int) -> list[IssuedCertificate]:
    intermediate = ca.intermediate()
    ending = ca.intermediate("CN=Ending CA,O=Tests", not_after=_at(now + PATH_ENDS))
    return [
        ca.issue("CN=client,O=Tests", dns=["client.example.test"], uris=["spiffe://example.test/client"]),
        ca.issue("CN=other,O=Tests", dns=["other.example.test"], uris=["spiffe://example.test/other"]),
        ca.issue("CN=client,O=Tests", not_after=_at(now + SHORT)),
        ca.issue("CN=client,O=Tests", not_after=_at(now + ENDED)),
        ca.issue("CN=client,O=Tests", not_before=_at(now + LATER)),
        self_signed("CN=client,O=Tests"),
        intermediate.issue("CN=client,O=Tests"),
        other_ca.issue("CN=client,O=Tests"),
        ending.issue("CN=client,O=Tests"),
    ]


def _written(issued: IssuedCertificate) -> dict[str, Any]:
    chain = [each.public_bytes(Encoding.DER) for each in issued.chain]
    return {
        "pem": issued.pem,
        "der": base64.b64encode(issued.der).decode("ascii"),
        "chain pem": [each.public_bytes(Encoding.PEM).decode("ascii") for each in issued.chain],
        "chain": [base64.b64encode(each).decode("ascii") for each in chain],
        "thumbprint": issued.thumbprint,
    }


def _lists(ca: CertificateAuthority, people: list[IssuedCertificate], now: int) -> dict[str, list[bytes]]:
    """The files of revocation lists, by the name of a state."""
    empty = crl(ca, now=now, ends=86_400)
    later = crl(ca, [people[0]], now=now, begins=CRL_BEGINS, ends=86_400, number=4)
    return {
        "empty": [empty],
        "first": [crl(ca, [people[0]], now=now, begins=-60, ends=86_400, number=2)],
        "ending": [crl(ca, now=now, begins=CRL_BEGAN, ends=CRL_ENDS, number=3)],
        "later": [empty, later],
        "later alone": [later],
        "broken": [b"not a list"],
    }


def _tokens(issuers: list[TokenIssuer], people: list[IssuedCertificate], now: int) -> list[dict[str, Any]]:
    """Tokens of each issuer for each person, with the facts by which requests choose among them."""
    kinds: dict[str, dict[str, Any]] = {
        "good": {},
        "unbound": {"claims": {"cnf": OMIT}},
        "ending": {"lifetime": timedelta(seconds=TOKEN_ENDS)},
        "beginning": {"claims": {"nbf": now + TOKEN_BEGINS}},
        "too little": {"scopes": ["other"]},
        "another kind": {"headers": {"typ": "JWT"}},
        "without jti": {"claims": {"jti": OMIT}},
        "unknown key": {"headers": {"kid": "unknown"}},
    }
    found = []
    for issuer in issuers:
        for number, person in enumerate(people):
            for kind, options in kinds.items() if number < 3 else [("good", {})]:
                usual = {"certificate": person, "scopes": SCOPES, "lifetime": timedelta(days=1), "now": _at(now - 5)}
                text = issuer.token(**{**usual, **options})
                found.append({"text": text, "kind": kind, "person": number, "issuer": issuer.issuer})
    return found


def _answers(people: list[IssuedCertificate], now: int) -> dict[str, dict[str, Any]]:
    """What the introspection server says of opaque tokens: by token, then by the state in which the server is."""
    found: dict[str, dict[str, Any]] = {}
    for number, person in enumerate(people[:3]):
        usual = {
            "active": True, "scope": " ".join(SCOPES), "sub": "user", "client_id": "client", "iss": INTROSPECTING,
            "aud": AUDIENCE, "exp": now + 3600, "jti": f"opaque {number}", "cnf": {"x5t#S256": person.thumbprint},
        }  # fmt: skip
        found[f"opaque-{number}"] = {"usual": usual, "revoked": {"active": False}}
        ending = {**usual, "exp": now + TOKEN_ENDS}
        found[f"ending-{number}"] = {"usual": ending, "revoked": {"active": False}}
    unbound = {name: value for name, value in found["opaque-0"]["usual"].items() if name != "cnf"}
    found["unbound-0"] = {"usual": unbound, "revoked": unbound}
    return found


def token_entry(text: str) -> bytes:
    """The entry of a JWT in a list of revoked tokens: a digest of `iss` and `jti`."""
    payload = text.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return hashlib.sha256(json.dumps([claims["iss"], claims.get("jti")]).encode("ascii")).digest()
