"""A public shop whose staff logs in to the admin with a smart card, and whose suppliers use an API."""
