"""An OCSP responder on loopback, built with `cryptography`, that gives every response a test needs."""

import time
from base64 import b64decode
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.loopback import LoopbackHandler, LoopbackServer
from tests.validation.authority import HOUR, at

GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN
SHA1, SHA256 = hashes.SHA1(), hashes.SHA256()


class Responder(LoopbackServer):
    """`with Responder(ca) as server:` then `server.url`, `server.status[serial] = REVOKED`, `server.options[...]`.

    `options`: the arguments of `respond` for every response. `body`: the bytes of every response.
    """

    def __init__(self, ca, **options):
        super().__init__(_Handler)
        self.ca, self.options = ca, options
        self.status = {}
        self.asked = []  # (method, the request)
        self.sent = []  # the bytes of the responses
        self.body = None
        self.http_status = 200
        self.url = f"{self.host}/ocsp"

    def response(self, der):
        if self.body is not None:
            return self.body
        request = ocsp.load_der_ocsp_request(der)
        status = self.status.get(request.serial_number, GOOD)
        return respond(self.ca, request, **{"status": status, **self.options})


class _Handler(LoopbackHandler):
    def do_GET(self):
        self._answer("GET", b64decode(unquote(self.path.removeprefix("/ocsp/"))))

    def do_POST(self):
        assert self.headers["Content-Type"] == "application/ocsp-request"
        self._answer("POST", self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, method, der):
        self.owner.asked.append((method, der))
        self.owner.wait(self.owner.stall)
        body = self.owner.response(der)
        self.owner.sent.append(body)
        self.send_response(self.owner.http_status)
        self.send_header("Content-Type", "application/ocsp-response")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def respond(
    ca,
    request,
    *,
    status=GOOD,
    now=None,
    begins=-HOUR,
    ends=HOUR,
    key=None,
    digest=SHA256,
    named=None,
    by_name=False,
    certificates=(),
    nonce="same",
    serial=None,
    issuer=None,
    tamper=False,
):
    """DER of a response to an `OCSPRequest`; `begins` and `ends` in seconds from `now`."""
    now = time.time() if now is None else now
    algorithm = request.hash_algorithm
    if issuer is None:
        name_hash, key_hash = request.issuer_name_hash, request.issuer_key_hash
    else:
        other = ocsp.OCSPRequestBuilder().add_certificate(issuer, issuer, algorithm).build()
        name_hash, key_hash = other.issuer_name_hash, other.issuer_key_hash
    builder = ocsp.OCSPResponseBuilder()
    builder = builder.add_response_by_hash(
        name_hash,
        key_hash,
        request.serial_number if serial is None else serial,
        algorithm,
        status,
        at(now + begins),
        None if ends is None else at(now + ends),
        at(now + begins) if status is REVOKED else None,
        None,
    )
    encoding = ocsp.OCSPResponderEncoding.NAME if by_name else ocsp.OCSPResponderEncoding.HASH
    builder = builder.responder_id(encoding, named or ca.certificate)
    if certificates:
        builder = builder.certificates(list(certificates))
    if nonce == "same":
        nonce = next((each.value.nonce for each in request.extensions if each.oid == x509.OCSPNonce.oid), None)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    der = builder.sign(key or ca.key, digest).public_bytes(Encoding.DER)
    if not tamper:
        return der
    signature = ocsp.load_der_ocsp_response(der).signature
    return der.replace(signature, signature[:-1] + bytes([signature[-1] ^ 1]))


def failure(name):
    """DER of an error response, for example "TRY_LATER"."""
    return ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus[name]).public_bytes(Encoding.DER)
