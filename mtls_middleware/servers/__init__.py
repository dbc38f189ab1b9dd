"""Adapters that make servers which terminate TLS hand over the client certificate. One module for each server."""
