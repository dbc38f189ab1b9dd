"""`mtls-middleware proxy-config PROXY`: options in, a configuration out, and beside it the source that fits.

Must never know: what a proxy's configuration looks like.
"""

import argparse
import os
import sys
from pathlib import Path

from mtls_middleware.cli.configuration import configuration
from mtls_middleware.cli.proxies import FORMS, MODES, PROXIES
from mtls_middleware.cli.wanted import SECRET_VARIABLE, Wanted

_EPILOG = f"""
The configuration goes to standard output, and to standard error the source object that belongs into the application.
One of several files (Traefik; HAProxy and nginx with --form rfc9440) is printed as one text with a line before each
file; --output writes them as files, and those that hold the secret for their owner's eyes alone. The value of
--secret-header is taken from the environment variable {SECRET_VARIABLE}.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Say which options the command takes."""
    parser.epilog = _EPILOG
    parser.add_argument("proxy", choices=tuple(PROXIES))
    parser.add_argument("--listen", default=Wanted.listen, metavar="[HOST]:PORT", help="default: %(default)s")
    parser.add_argument(
        "--upstream",
        default=Wanted.upstream,
        metavar="HOST:PORT",
        help="the application; or unix:/path, its socket; default: %(default)s",
    )
    parser.add_argument("--ca", default=Wanted.ca, help="who signs client certificates; default: %(default)s")
    parser.add_argument("--certificate", default=Wanted.certificate, help="the server's; default: %(default)s")
    parser.add_argument("--key", help="its key; default: the certificate's path with .key at the end")
    parser.add_argument(
        "--mode",
        choices=MODES,
        default=Wanted.mode,
        help="clients without acceptable certificate are refused (required); those without any are let through "
        "(optional, the default); those whose certificate does not verify, too (untrusted)",
    )
    parser.add_argument(
        "--form", choices=FORMS, default=Wanted.form, help="the proxy's own header (default), or that of RFC 9440"
    )
    parser.add_argument("--proxy-address", help="where the application sees the proxy come from, if not from loopback")
    parser.add_argument(
        "--secret-header", metavar="NAME", help="a field that the proxy alone can set, such as X-Proxy-Secret"
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write the files there instead of printing them")


def run(options: argparse.Namespace) -> int:
    """Print the configuration, or write its files. Raises `ConfigurationError`, or `OSError` where it cannot write."""
    wanted = Wanted(
        proxy=options.proxy,
        listen=options.listen,
        upstream=options.upstream,
        ca=options.ca,
        certificate=options.certificate,
        key=options.key or f"{options.certificate}.key",
        mode=options.mode,
        form=options.form,
        proxy_address=options.proxy_address,
        secret_header=options.secret_header,
        secret=os.environ.get(SECRET_VARIABLE) if options.secret_header else None,
    )
    command = f"{wanted.proxy} --mode {wanted.mode} --form {wanted.form}"
    if wanted.secret_header:
        command += f" --secret-header {wanted.secret_header}"
    texts = configuration(wanted, command=command)
    if options.output is not None:
        for name, text in texts.items():
            write(options.output / name, text, secret=wanted.secret is not None and wanted.secret in text)
    elif len(texts) == 1:
        sys.stdout.write("".join(texts.values()))
    else:
        sys.stdout.write("".join(f"==> {name} <==\n{text}\n" for name, text in texts.items()))
    sys.stderr.write(f"source = {wanted.source()}\n")
    return 0


def write(path: Path, text: str, *, secret: bool) -> None:
    """Write a file, in folders made for it. One with a secret is a new file of mode 0600. Raises `OSError`.

    Example: `write(Path("plugins/a.go"), "package a", secret=False)`
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not secret:
        path.write_text(text, "utf-8")
        return
    # New: whoever has the old one open, or put a link there, shall not read on.
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
