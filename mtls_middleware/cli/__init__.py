"""The command line: `mtls-middleware COMMAND ...`. `main` knows which commands there are; each is a file of its own."""
