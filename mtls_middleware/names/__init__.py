"""The three grammars of names in a client certificate: distinguished names, alternative names, SPIFFE IDs."""
