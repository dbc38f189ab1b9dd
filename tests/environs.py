"""What a WSGI server that the library knows puts into every environ that it makes."""

KNOWN_SERVER = {"SERVER_SOFTWARE": "gunicorn/27.0.1"}
