"""RFC 8705 for authorization server libraries, and scopes of routes for web frameworks. Import the module you need."""
