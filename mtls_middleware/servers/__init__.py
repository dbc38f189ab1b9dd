"""Adapters, one module per server, that make servers pass the client certificate of TLS to the application."""
