"""RFC 8705 for the authorization server libraries that Python has. One module for each; import the one that you use."""
