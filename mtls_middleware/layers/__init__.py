"""The decisions of the middleware, for both gateways."""
