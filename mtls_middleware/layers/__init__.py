"""Makes the decisions of the middleware. The WSGI gateway and the ASGI gateway use this package."""
