"""RFC 8705 for authorization server libraries, and scopes per route for frameworks. Import the module that you use."""
