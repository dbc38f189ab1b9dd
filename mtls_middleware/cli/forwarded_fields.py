"""Lists the header fields in which a proxy describes a client's connection, other than the certificate fields."""

# A generated configuration overwrites these fields on every request.
SET_FIELDS = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto")

# A generated configuration deletes these fields. Frameworks, servers and applications read them as the client's
# address, or as the scheme, host or path of the request: RFC 7239 (Forwarded); werkzeug's ProxyFix and Traefik
# (X-Forwarded-Prefix); gunicorn's secure_scheme_headers (X-Forwarded-Protocol, X-Forwarded-Ssl); Symfony and IIS
# (X-Original-URL, X-Rewrite-URL); CDNs (the fields with an address).
DELETED_FIELDS = frozenset({
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "front-end-https",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-forwarded-by",
    "x-forwarded-client-ip",
    "x-forwarded-method",
    "x-forwarded-path",
    "x-forwarded-prefix",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-host",
    "x-http-host-override",
    "x-original-host",
    "x-original-url",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-rewrite-url",
    "x-scheme",
    "x-script-name",
    "x-url-scheme",
})  # fmt: skip
