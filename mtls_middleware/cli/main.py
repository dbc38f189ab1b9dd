"""The entry point `mtls-middleware`: parses the command line and runs one command.

A command is a module with the functions `arguments(parser)` and `run(options) -> int`.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from mtls_middleware import __version__
from mtls_middleware.errors import ConfigurationError

# Command name -> (module, help text). Only the module of the command that runs is imported.
COMMANDS = {
    "proxy-config": ("mtls_middleware.cli.proxy_config", "print a hardened configuration for a proxy"),
    "inspect": (
        "mtls_middleware.cli.inspect_certificate",
        "print a certificate, and the rules that match it",
    ),
    "verify": (
        "mtls_middleware.cli.verify",
        "verify a certificate: print its path to a root, and what fails first",
    ),
    "doctor": ("mtls_middleware.cli.doctor", "check an application and its server for known traps"),
    "explain": ("mtls_middleware.cli.explain", "show step by step how an application decides about a request"),
    "dev-ca": ("mtls_middleware.cli.dev_ca", "write a throwaway CA and certificates for development"),
    "revocations": (
        "mtls_middleware.cli.revocations",
        "manage the list of revoked tokens and certificates",
    ),
    "probe": ("mtls_middleware.cli.probe", "send forged certificate headers to an address of your own"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit status. The status is 2 if the arguments are invalid.

    Example: `main(["proxy-config", "nginx"])`
    """
    words = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(prog="mtls-middleware", description="Command-line tools of mtls-middleware.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name in words[:1]:
            imported = import_module(module)
            imported.arguments(command)
            command.set_defaults(run=imported.run)
    options = parser.parse_args(words)
    try:
        return int(options.run(options))
    except ConfigurationError as error:
        sys.stderr.write(f"mtls-middleware {options.command}: {error}\n")
        return 2
