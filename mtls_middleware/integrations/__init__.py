"""RFC 8705 for authorization server libraries, and scopes per route for web frameworks. Import the module you need."""
