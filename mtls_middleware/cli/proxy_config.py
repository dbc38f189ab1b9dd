"""`mtls-middleware proxy-config PROXY`: prints or writes a proxy's configuration, and prints the source that fits."""

import argparse
import os
import re
import secrets
import sys
from pathlib import Path

from cryptography import x509

from mtls_middleware.cli.configuration import APPLICATION_ENVIRONMENT, configuration
from mtls_middleware.cli.proxies import FORMS, MODES, PROXIES, SECRET
from mtls_middleware.cli.wanted import SECRET_VARIABLE, Wanted
from mtls_middleware.errors import ConfigurationError

_EPILOG = f"""
The configuration goes to standard output, and the source object for the application to standard error. --output writes
files instead; without it, a line with the file's name comes before each file. The proxy adds a secret to every request,
and the application accepts no certificate without it. The secret is the value of the environment variable
{SECRET_VARIABLE}, or that of FOLDER/{APPLICATION_ENVIRONMENT} if the file exists, or else a new random one. Only
their owner can read the files that contain it.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.epilog = _EPILOG
    parser.add_argument("proxy", choices=tuple(PROXIES))
    parser.add_argument("--listen", default=Wanted.listen, metavar="[HOST]:PORT", help="default: %(default)s")
    parser.add_argument(
        "--upstream",
        default=Wanted.upstream,
        metavar="HOST:PORT",
        help="the application; or unix:/path, its socket; default: %(default)s",
    )
    parser.add_argument(
        "--server-name",
        action="append",
        default=[],
        metavar="NAME",
        help="a host name of this server; needed if other servers listen on the same address; may be repeated",
    )
    parser.add_argument("--ca", default=Wanted.ca, help="the CAs that sign client certificates; default: %(default)s")
    parser.add_argument("--certificate", default=Wanted.certificate, help="the server's; default: %(default)s")
    parser.add_argument("--key", help="its key; default: the certificate's path with .key at the end")
    parser.add_argument(
        "--mode",
        choices=MODES,
        default=Wanted.mode,
        help="required: reject clients without an acceptable certificate; optional (default): admit clients without "
        "any; untrusted: also admit those whose certificate does not verify",
    )
    parser.add_argument(
        "--form", choices=FORMS, default=Wanted.form, help="the proxy's own fields (default), or those of RFC 9440"
    )
    parser.add_argument("--proxy-address", help="the proxy's address as the application sees it, if not loopback")
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument(
        "--secret-header", metavar="NAME", default=SECRET, help="the field with the secret; default: %(default)s"
    )
    secret.add_argument(
        "--no-secret",
        action="store_true",
        help="trust the proxy's address alone: a client that gets a request onto its connection is then trusted, too",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write the files there instead of printing them")


def run(options: argparse.Namespace) -> int:
    """Print the configuration, or write its files. Raises `ConfigurationError` and `OSError`."""
    folder = options.output
    wanted = Wanted(
        proxy=options.proxy,
        listen=options.listen,
        upstream=options.upstream,
        ca=options.ca,
        certificate=options.certificate,
        key=options.key or f"{options.certificate}.key",
        mode=options.mode,
        form=options.form,
        server_names=tuple(options.server_name) or _names_of(options.proxy, options.certificate),
        proxy_address=options.proxy_address,
        secret_header=None if options.no_secret else options.secret_header,
        secret=None if options.no_secret else _secret(folder),
        folder="" if folder is None else f"{folder.absolute()}/",
    )
    texts = configuration(wanted, command=_command(wanted))
    if folder is not None:
        for name, text in texts.items():
            # The operator may have added the old secret to this file, which the application still accepts.
            if name != APPLICATION_ENVIRONMENT or wanted.secret != _secret_in(folder / name):
                write(folder / name, text, secret=wanted.secret is not None and wanted.secret in text)
    elif len(texts) == 1:
        sys.stdout.write("".join(texts.values()))
    else:
        sys.stdout.write("".join(f"==> {name} <==\n{text}\n" for name, text in texts.items()))
    sys.stderr.write(f"source = {wanted.source()}\n")
    return 0


def _command(wanted: Wanted) -> str:
    command = f"{wanted.proxy} --mode {wanted.mode} --form {wanted.form}"
    command += "".join(f" --server-name {name}" for name in wanted.server_names)
    if wanted.secret_header is None:
        return f"{command} --no-secret"
    return command if wanted.secret_header == SECRET else f"{command} --secret-header {wanted.secret_header}"


def _secret(folder: Path | None) -> str:
    """The secret to write. Writing the files again keeps it, so that a running application stays in step."""
    if SECRET_VARIABLE in os.environ:
        return os.environ[SECRET_VARIABLE].split(",")[0]
    path = None if folder is None else folder / APPLICATION_ENVIRONMENT
    if path is None or not path.exists():
        return secrets.token_hex(32)
    found = _secret_in(path)
    if found is None:
        raise ConfigurationError(
            f"{path} has no line {SECRET_VARIABLE}=...: write one, or remove the file for a new secret"
        )
    return found


def _secret_in(path: Path) -> str | None:
    """The first secret of an environment file, which is the one that the proxy sends."""
    if not path.exists():
        return None
    found = re.search(rf"^{SECRET_VARIABLE}=([^,\n]+)", path.read_text("utf-8"), re.MULTILINE)
    return found and found[1]


def _names_of(proxy: str, certificate: str) -> tuple[str, ...]:
    """The DNS names of the server's certificate, for Traefik, which compares SNI and Host by names that it knows."""
    if proxy != "traefik":
        return ()
    try:
        names = (
            x509.load_pem_x509_certificates(Path(certificate).read_bytes())[0]
            .extensions.get_extension_for_class(x509.SubjectAlternativeName)
            .value.get_values_for_type(x509.DNSName)
        )
    except (OSError, ValueError, x509.InvalidVersion, x509.ExtensionNotFound):
        return ()
    return () if any("*" in name for name in names) else tuple(name.lower() for name in names)


def write(path: Path, text: str, *, secret: bool) -> None:
    """Replace a file at once by a new one, and make its folder. With a secret, its mode is 0600. Raises `OSError`.

    A link in its place is replaced, and the file that it leads to stays as it is. A process that has the old file open
    does not read the new secret.

    Example: `write(Path("plugins/a.go"), "package a", secret=False)`
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o666)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
