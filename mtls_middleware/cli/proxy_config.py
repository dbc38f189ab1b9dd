"""`mtls-middleware proxy-config PROXY`: options in, a configuration out, and beside it the source that fits.

Must never know: what a proxy's configuration looks like.
"""

import argparse
import sys
from pathlib import Path

from mtls_middleware.cli.proxies import FORMS, MODES, PROXIES, Wanted, configuration

_EPILOG = """
The configuration goes to standard output, and to standard error the source object that belongs into the application.
One of several files (Traefik; HAProxy and nginx with --form rfc9440) is printed as one text with a line before each
file; --output writes them as files.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Say which options the command takes."""
    parser.epilog = _EPILOG
    parser.add_argument("proxy", choices=tuple(PROXIES))
    parser.add_argument("--listen", default=Wanted.listen, metavar="[HOST]:PORT", help="default: %(default)s")
    parser.add_argument("--upstream", default=Wanted.upstream, metavar="HOST:PORT", help="default: %(default)s")
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
    )
    texts = configuration(wanted, command=f"{wanted.proxy} --mode {wanted.mode} --form {wanted.form}")
    if options.output is not None:
        for name, text in texts.items():
            (options.output / name).write_text(text, "utf-8")
    elif len(texts) == 1:
        sys.stdout.write("".join(texts.values()))
    else:
        sys.stdout.write("".join(f"==> {name} <==\n{text}\n" for name, text in texts.items()))
    sys.stderr.write(f"source = {wanted.source()}\n")
    return 0
