"""`failure_reason`: the reason why the list in Redis cannot be read or written, with advice for the operator."""

from mtls_middleware.revocation.format import UnreadableList

# Advice for the operator, by the name of the client's exception. The message of the exception is not logged, because it
# may quote data from Redis.
_ADVICE = {
    "AuthenticationError": "check username= and password= of the client",
    "NoPermissionError": "let the user of the client read this key (ACL: ~KEY +zrange)",
    "ConnectionError": "check that Redis is running, and host= of the client",
    "TimeoutError": "check that Redis is running, and that socket_timeout= exceeds its response time",
    "ReadOnlyError": "the client is connected to a replica: connect it to the primary",
    "OutOfMemoryError": "the memory of Redis is full: raise its maxmemory",
}
# Advice by the code of an error that the client has no class for.
_ADVICE_BY_CODE = {
    "WRONGTYPE": "the key contains another type of data; set key= to a name that nothing else uses",
    "NOREPLICAS": "Redis has fewer replicas than its min-replicas-to-write: check that they run",
    "MISCONF": "Redis cannot write to its disk: see its log",
}


def failure_reason(failure: Exception) -> str:
    """Return the reason why the list cannot be read or written, and advice for the operator.

    Example: `failure_reason(redis.ConnectionError())`
    """
    if isinstance(failure, UnreadableList):
        return str(failure)
    name, text = type(failure).__name__, str(failure)
    advice = next((each for code, each in _ADVICE_BY_CODE.items() if f"{code} " in text), "see the log of Redis")
    return f"{name}; {_ADVICE.get(name, advice)}"
