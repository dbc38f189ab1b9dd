"""RFC 8705 for authorization server libraries, and scope checks per route for web frameworks."""
