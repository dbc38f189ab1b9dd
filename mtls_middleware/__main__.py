"""Runs the command line: `python -m mtls_middleware COMMAND ...` is the same as `mtls-middleware COMMAND ...`."""

import sys

if __name__ == "__main__":
    from mtls_middleware.cli.main import main

    sys.exit(main())
