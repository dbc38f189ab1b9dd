"""The command line `mtls-middleware COMMAND ...`. The module `main` lists the commands. Each command is one module."""
