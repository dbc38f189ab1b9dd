"""What makes a server that ends TLS itself hand over the client certificate. One module for each server."""
