"""Client certificates in Django: middleware, users, admin and system checks, configured by `MTLS_MIDDLEWARE`."""
