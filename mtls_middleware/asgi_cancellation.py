"""Responds to a request whose task is cancelled while the layers wait, for example for an introspection response.

Servers cancel the tasks of requests if they do not end in time during a shutdown. If the task then ends by the
cancellation, the client gets 500, or no response.
"""

from mtls_middleware.asgi_messages import Receive, Scope, Send, write
from mtls_middleware.errors import Unavailable
from mtls_middleware.responses import LayerResponse

# Maximum number of seconds to send the response. A client that does not read must not delay the shutdown.
_WRITE_TIMEOUT = 1.0


def cancelled(error: BaseException) -> Unavailable:
    """Return the rejection of a request whose task asyncio cancels. Raises `error` if `error` is any other exception.

    Any other exception is, for example, trio's cancellation, after which a task cannot send anything, or the
    `CancelledError` of a future that a validator awaits.
    """
    import asyncio  # if asyncio is not imported, the server uses trio

    if not isinstance(error, asyncio.CancelledError):
        raise error
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        raise error
    reason = "the request was cancelled before a decision, for example because the server shuts down"
    return Unavailable(reason, retry_after=1)


async def write_after(
    cancellation: BaseException, response: LayerResponse, scope: Scope, receive: Receive, send: Send
) -> None:
    """Send the response. Raises `cancellation` if the server does not accept the response.

    If the server accepts the response, the cancellation is suppressed, because servers log a cancelled task as an error
    of the application. A timeout such as `asyncio.timeout` then treats the task as one that ended in time.
    """
    import asyncio

    try:
        async with asyncio.timeout(_WRITE_TIMEOUT):
            await write(response, scope, receive, send)
    except Exception:  # noqa: BLE001 (the client has disconnected, or does not read; servers raise different exceptions)
        raise cancellation from None
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()  # code that suppresses a cancellation must call this method, by its documentation
