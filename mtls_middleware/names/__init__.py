"""Parses and compares the names in a client certificate: distinguished names, alternative names and SPIFFE IDs."""
