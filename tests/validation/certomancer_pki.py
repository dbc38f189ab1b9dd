"""The configuration of certomancer: two PKIs, one with ECDSA and one with RSA keys, and their OCSP responders."""

import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

KINDS = ("ecdsa", "rsa")
ENTITIES = ("root", "other", "client", "responder")
_LONG = {"valid-from": "2020-01-01T00:00:00+0000", "valid-to": "2100-01-01T00:00:00+0000"}
_SHORT = {"valid-from": "2020-01-01T00:00:00+0000", "valid-to": "2021-01-01T00:00:00+0000"}
_CRITICAL_EXTENSION = {"id": "extended_revoke", "critical": True, "value": None}


def _usage(*names: str) -> dict[str, Any]:
    return {"id": "key_usage", "critical": True, "smart-value": {"schema": "key-usage", "params": list(names)}}


_CA = [{"id": "basic_constraints", "critical": True, "value": {"ca": True}}, _usage("key_cert_sign", "crl_sign")]
_CLIENT = [_usage("digital_signature"), {"id": "extended_key_usage", "value": ["client_auth"]}]
_RESPONDER = [_usage("digital_signature"), {"id": "extended_key_usage", "value": ["ocsp_signing"]}]
_NO_CHECK = {"id": "ocsp_no_check"}

CERTIFICATES: dict[str, Any] = {
    "root": {"issuer": "root", "subject": "root", "validity": _LONG, "extensions": _CA},
    "other": {"issuer": "other", "subject": "other", "validity": _LONG, "extensions": _CA},
    "good": {"issuer": "root", "subject": "client", "validity": _LONG, "extensions": _CLIENT},
    "revoked": {
        "issuer": "root",
        "subject": "client",
        "validity": _LONG,
        "extensions": _CLIENT,
        "revocation": {"revoked-since": "2024-12-01T00:00:00+0000", "reason": "key_compromise"},
    },
    "delegate": {"extensions": [*_RESPONDER, _NO_CHECK]},
    "to-be-checked": {"extensions": _RESPONDER},
    "without-purpose": {"extensions": [_usage("digital_signature"), _NO_CHECK]},
    "for-clients": {"extensions": [*_CLIENT, _NO_CHECK]},
    "expired": {"extensions": [*_RESPONDER, _NO_CHECK], "validity": _SHORT},
    "elsewhere": {"extensions": [*_RESPONDER, _NO_CHECK], "issuer": "other"},
}
for _each in list(CERTIFICATES)[4:]:
    CERTIFICATES[_each] = {"issuer": "root", "subject": "responder", "validity": _LONG, **CERTIFICATES[_each]}

# The responders. The name of a responder is the last segment of its URL.
RESPONDERS: dict[str, Any] = {
    "ca": {"responder-cert": "root", "signing-key": "root"},
    "sha384": {"responder-cert": "root", "signing-key": "root", "digest-algo": "sha384"},
    "sha1": {"responder-cert": "root", "signing-key": "root", "digest-algo": "sha1"},
    "without-next-update": {"responder-cert": "root", "signing-key": "root", "validity-period": None},
    "wrong-key": {"responder-cert": "root", "signing-key": "other"},
    "other-ca": {"responder-cert": "other", "signing-key": "other"},
    "of-other-ca": {"responder-cert": "other", "signing-key": "other", "for-issuer": "other"},
    "critical-extension": {
        "responder-cert": "root",
        "signing-key": "root",
        "ocsp-extensions": [_CRITICAL_EXTENSION],
    },
}
for _each in list(CERTIFICATES)[4:]:
    RESPONDERS[_each] = {"responder-cert": _each, "signing-key": "responder"}
PSS = {"pss": {"responder-cert": "delegate", "signing-key": "responder", "signature-algo": "rsassa_pss"}}


def write(folder: Path) -> Path:
    """Write the configuration and the keys. JSON is YAML, too."""
    for kind in KINDS:
        for name in ENTITIES:
            key = ec.generate_private_key(ec.SECP256R1()) if kind == "ecdsa" else rsa.generate_private_key(65_537, 2048)
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (folder / f"{kind}-{name}.key").write_bytes(pem)
    configuration = {
        "keysets": {kind: {"keys": {name: {"path": f"{kind}-{name}.key"} for name in ENTITIES}} for kind in KINDS},
        "pki-architectures": {kind: _architecture(kind) for kind in KINDS},
    }
    path = folder / "certomancer.yml"
    path.write_text(json.dumps(configuration))
    return path


def _architecture(kind: str) -> dict[str, Any]:
    responders = {**RESPONDERS, **(PSS if kind == "rsa" else {})}
    return {
        "keyset": kind,
        "entities": {name: {"common-name": name, "organization-name": kind} for name in ENTITIES},
        "certs": CERTIFICATES,
        "services": {"ocsp": {name: {"for-issuer": "root", **each} for name, each in responders.items()}},
    }
