"""`ssl_context`: a TLS context with the current certificate, for HTTP clients other than httpx2."""

import ssl

from mtls_middleware.certificate_files import CertificateFiles, CertificateKeyPair, Roots, check_certificate_files


def ssl_context(certificate: CertificateFiles | CertificateKeyPair, roots: Roots = None) -> ssl.SSLContext:
    """Return a new TLS context that presents the current certificate, and verifies the server and its name.

    The context keeps this certificate. After the files are renewed, `certificate.current()` returns a new object, and
    the HTTP client needs a new context.

    Arguments:
        certificate: the files, or the pair that `CertificateFiles.current()` returns.
        roots: a PEM file with the CAs that the server's certificate may come from. Default: the system's CAs.

    Raises `ConfigurationError` if an argument is invalid, or if a file cannot be used.

    Example: `urllib3.PoolManager(ssl_context=ssl_context(CertificateFiles("c.pem", "c.key"), "ca.pem"))`
    """
    if isinstance(certificate, CertificateKeyPair):
        return certificate.ssl_context(roots)
    return check_certificate_files(certificate).current().ssl_context(roots)
