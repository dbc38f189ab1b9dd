"""`advice_for_status`: what an operator can change if the introspection server responds with an unexpected status."""

_ADVICE = {
    401: "the server rejects this client's credentials: check client_id and client_secret, or the certificate in "
    "ssl_context",
    403: "the server does not allow this client to introspect tokens: change this at the server",
    404: "the server has no introspection endpoint at this address: check endpoint=",
    405: "the endpoint does not accept POST: check endpoint=",
}


def advice_for_status(status: int) -> str:
    """Return the advice for the log, for a status other than 200."""
    if status in _ADVICE:
        return _ADVICE[status]
    if 300 <= status < 400:
        return "redirects are not followed: set endpoint= to the address in the Location field"
    return "the server has an error" if status >= 500 else "check endpoint="
