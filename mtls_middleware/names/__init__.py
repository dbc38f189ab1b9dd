"""Parsing and comparison of the names in a client certificate: distinguished names, alternative names, SPIFFE IDs."""
