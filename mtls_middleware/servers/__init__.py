"""Adapters that make servers pass the client certificate of TLS to the application, with one module for each server."""
