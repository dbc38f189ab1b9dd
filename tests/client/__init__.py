"""The client side: tokens that are bound to its certificate."""
