"""What a layer reads and writes under WSGI: the body of a request, and the response to a rejected one (PEP 3333)."""

from collections.abc import Iterable
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any

from mtls_middleware.errors import Refused
from mtls_middleware.request import MAX_BODY
from mtls_middleware.responses import LayerResponse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def body(environ: "WSGIEnvironment") -> bytes:
    """The whole body, left readable for the application. Raises `Refused`."""
    given = environ.get("CONTENT_LENGTH") or ""
    if given:
        if not (given.isascii() and given.isdigit()):
            raise Refused("invalid_request", "CONTENT_LENGTH is no number")
        length = int(given[:20])
    else:  # chunked, where the server says that the body has an end; otherwise there is none (PEP 3333)
        length = MAX_BODY + 1 if environ.get("wsgi.input_terminated") else 0
    if given and length > MAX_BODY:
        raise Refused("payload_too_large", f"a body of {length} octets, {MAX_BODY} are read")
    body = bytearray()
    try:
        while len(body) < length and (more := environ["wsgi.input"].read(length - len(body))):
            body += more
    except OSError as error:  # so say uWSGI, mod_wsgi and gunicorn that the client went away, or broke its chunks
        raise Refused("invalid_request", f"a body that breaks off ({type(error).__name__})") from None
    if len(body) > MAX_BODY:
        raise Refused("payload_too_large", f"a body of more than {MAX_BODY} octets")
    if given and len(body) < length:
        raise Refused("invalid_request", "a body that ends early")
    environ["wsgi.input"] = BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))  # Django reads no body without it
    return bytes(body)


def write(answer: LayerResponse, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", list(answer.headers))
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [answer.body]


def varying(start_response: "StartResponse", vary: list[tuple[str, str]]) -> "StartResponse":
    """Mark the application's responses as selected by the certificate's field (RFC 9440 2.4)."""

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if exc_info is None:
            return start_response(status, [*headers, *vary])
        return start_response(status, [*headers, *vary], exc_info)

    return start
