"""The entry point `mtls-middleware`: which commands there are, and the way in to each.

Must never know: what a command does. A command is a module with `arguments(parser)` and `run(options) -> int`.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from mtls_middleware import __version__
from mtls_middleware.errors import ConfigurationError

# command: (its module, one line of help). Only the module of the command that is asked for is imported.
COMMANDS = {
    "proxy-config": ("mtls_middleware.cli.proxy_config", "print a hardened configuration for a proxy"),
    "inspect": ("mtls_middleware.cli.inspect_certificate", "say what a certificate says, and which rules name it"),
    "doctor": ("mtls_middleware.cli.doctor", "look at a wired application and its server for known traps"),
    "revocations": ("mtls_middleware.cli.revocations", "make, fill and look at the list of what was revoked"),
    "probe": ("mtls_middleware.cli.probe", "try every forged certificate header against an address of your own"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status: 0, what the command says, or 2 where the arguments are wrong.

    Example: `main(["proxy-config", "nginx"])`
    """
    given = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(prog="mtls-middleware", description="Tools beside the middleware.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name in given[:1]:
            imported = import_module(module)
            imported.arguments(command)
            command.set_defaults(run=imported.run)
    options = parser.parse_args(given)
    try:
        return int(options.run(options))
    except ConfigurationError as error:
        sys.stderr.write(f"mtls-middleware {options.command}: {error}\n")
        return 2
