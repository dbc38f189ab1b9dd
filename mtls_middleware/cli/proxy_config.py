"""The command `mtls-middleware proxy-config PROXY`: makes a proxy's configuration, and prints the matching source."""

import argparse
import contextlib
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from cryptography import x509

from mtls_middleware.cli.configuration import APPLICATION_ENVIRONMENT, configuration
from mtls_middleware.cli.proxies import FORMS, MODES, PROXIES, SECRET
from mtls_middleware.cli.proxy_options import SECRET_VARIABLE, ProxyOptions
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.parser_errors import UNREADABLE

# The maximum number of octets that are read from the environment file. The line with the secrets is much shorter: each
# secret has at most 256 characters.
_LONGEST_ENVIRONMENT = 65_536

_EPILOG = f"""
The configuration is written to standard output, and the source object for the application to standard error. If the
configuration has several files, a line with the name precedes each file. With --output, the files are written to a
folder instead. The proxy adds a secret to every request, and the application accepts no certificate without the secret.
The secret is the value of the environment variable {SECRET_VARIABLE}, or else the secret in
FOLDER/{APPLICATION_ENVIRONMENT}, or else a new random value. Only the owner can read the files that contain the secret.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command `proxy-config` to `parser`."""
    parser.epilog = _EPILOG
    parser.add_argument("proxy", choices=tuple(PROXIES))
    parser.add_argument("--listen", default=ProxyOptions.listen, metavar="[HOST]:PORT", help="default: %(default)s")
    parser.add_argument(
        "--upstream",
        default=ProxyOptions.upstream,
        metavar="HOST:PORT",
        help="the address of the application, or unix:/path for its unix socket; default: %(default)s",
    )
    parser.add_argument(
        "--server-name",
        action="append",
        default=[],
        metavar="NAME",
        help="a host name of this server; required if other servers listen on the same address; may be repeated",
    )
    parser.add_argument(
        "--ca", default=ProxyOptions.ca, help="PEM file of the CAs of client certificates; default: %(default)s"
    )
    parser.add_argument(
        "--crl",
        metavar="FILE",
        help="PEM file of the revocation lists of all CAs of client certificates "
        f"({_proxies_with('crl')}); by default, the proxy does not check revocation",
    )
    parser.add_argument(
        "--ocsp",
        metavar="URL",
        help="the OCSP responder that the proxy asks about client certificates, for example http://ocsp.example.com/ "
        f"({_proxies_with('ocsp')})",
    )
    parser.add_argument(
        "--certificate",
        default=ProxyOptions.certificate,
        help="PEM file of the server's certificate; default: %(default)s",
    )
    parser.add_argument(
        "--key", help="PEM file of the server's key; default: the path of the certificate with .key at the end"
    )
    parser.add_argument(
        "--mode",
        choices=MODES,
        default=ProxyOptions.mode,
        help="required: reject clients without a valid certificate; optional (default): also accept clients without a "
        "certificate; untrusted: accept every client, even if its certificate does not verify",
    )
    parser.add_argument(
        "--form",
        choices=FORMS,
        default=ProxyOptions.form,
        help="idiomatic (default): the usual fields of the proxy; rfc9440: the fields of RFC 9440",
    )
    parser.add_argument(
        "--proxy-address", help="the address of the proxy as the application sees it; default: loopback"
    )
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument(
        "--secret-header",
        metavar="NAME",
        default=SECRET,
        help="the header that carries the secret; default: %(default)s",
    )
    secret.add_argument(
        "--no-secret",
        action="store_true",
        help="trust the proxy's address alone; any request on the proxy's connection is then trusted, even a request "
        "that a client smuggled onto it",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="write the files to this folder instead of printing them"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _proxies_with(option: str) -> str:
    """Return the names of the proxies that have this option."""
    return ", ".join(name for name, row in PROXIES.items() if getattr(row, option))


def run(options: argparse.Namespace) -> int:
    """Print the configuration or write its files, and return 0. Raises `ConfigurationError` for an invalid option."""
    folder = options.output
    proxy_options = ProxyOptions(
        proxy=options.proxy,
        listen=options.listen,
        upstream=options.upstream,
        ca=options.ca,
        crl=options.crl,
        ocsp=options.ocsp,
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
    files = configuration(proxy_options, command=_command(proxy_options))
    if folder is not None:
        _output(folder, files, proxy_options.secret)
    source = proxy_options.source()
    if options.json:
        # The contents of written files are not printed, because the files contain the secret.
        result = {"files": files} if folder is None else {"written": [str(folder / name) for name in files]}
        sys.stdout.write(json.dumps({"source": source, **result}, indent=2) + "\n")
        return 0
    if folder is None and len(files) == 1:
        sys.stdout.write("".join(files.values()))
    elif folder is None:
        sys.stdout.write("".join(f"==> {name} <==\n{text}\n" for name, text in files.items()))
    sys.stderr.write(f"source = {source}\n")
    return 0


def _command(proxy_options: ProxyOptions) -> str:
    command = f"{proxy_options.proxy} --mode {proxy_options.mode} --form {proxy_options.form}"
    command += "".join(f" --server-name {name}" for name in proxy_options.server_names)
    # The printed command contains these options, because a run without them would turn off the revocation check.
    revocation = {"--crl": proxy_options.crl, "--ocsp": proxy_options.ocsp}
    command += "".join(f" {option} {value}" for option, value in revocation.items() if value is not None)
    if proxy_options.secret_header is None:
        return f"{command} --no-secret"
    return (
        command if proxy_options.secret_header == SECRET else f"{command} --secret-header {proxy_options.secret_header}"
    )


def _secret(folder: Path | None) -> str:
    """Return the secret to write. An existing secret is kept, so that a running application still accepts it."""
    if SECRET_VARIABLE in os.environ:
        return os.environ[SECRET_VARIABLE].split(",")[0]
    path = None if folder is None else folder / APPLICATION_ENVIRONMENT
    if path is None or not os.path.lexists(path):
        return secrets.token_hex(32)
    with _trusted_file(path) as file:
        found = _first_secret(file)
    if found is None:
        raise ConfigurationError(
            f"{path} has no line {SECRET_VARIABLE}=...: add the line, or remove the file for a new secret"
        )
    return found


@contextlib.contextmanager
def _trusted_file(path: Path) -> Iterator[int]:
    """Open a file and yield its descriptor. Raises `ConfigurationError` if another user may have written the file."""
    expected = f"{path}: expected a regular file of the current user or root that is not writable by every user"
    try:
        # With these flags, the call does not follow a link, and does not wait until another process writes to a FIFO.
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise ConfigurationError(f"{expected} ({error.strerror})") from error
    try:
        found = os.fstat(file)
        trusted_owner = not hasattr(os, "geteuid") or found.st_uid in (0, os.geteuid())
        if not stat.S_ISREG(found.st_mode) or not trusted_owner or found.st_mode & stat.S_IWOTH:
            raise ConfigurationError(f"{expected}, found {stat.filemode(found.st_mode)} of the user {found.st_uid}")
        yield file
    finally:
        os.close(file)


def _first_secret(file: int) -> str | None:
    """Return the first secret in an environment file, or `None` if the file has no secret.

    The proxy sends the first secret.
    """
    text = os.read(file, _LONGEST_ENVIRONMENT).decode("utf-8", "replace")
    found = re.search(rf"^{SECRET_VARIABLE}=([^,\r\n]+)", text, re.MULTILINE)
    return found and found[1]


def _output(folder: Path, files: Mapping[str, str], secret: str | None) -> None:
    """Write the files to `folder`. Raises `ConfigurationError` if a file cannot be written.

    If an environment file with this secret exists, it is not written again. Only its permissions for other users are
    removed.
    """
    path, new = folder / APPLICATION_ENVIRONMENT, dict(files)
    with contextlib.suppress(ConfigurationError), _trusted_file(path) as file:
        # Keep the file: the operator may have added the old secret, which the application still accepts.
        if path.name in new and _first_secret(file) == secret:
            if hasattr(os, "fchmod"):
                os.fchmod(file, stat.S_IMODE(os.fstat(file).st_mode) & ~stat.S_IRWXO)
            del new[path.name]
    try:
        write_all(folder, new, secret)
    except OSError as error:
        raise ConfigurationError(f"--output {folder} cannot be written: {error}") from error


def _names_of(proxy: str, certificate: str) -> tuple[str, ...]:
    """For Traefik, return the DNS names in the server's certificate. For any other proxy, return no names.

    Traefik compares SNI and Host only for names in its configuration. For a certificate with a wildcard, no names are
    returned.
    """
    if proxy != "traefik":
        return ()
    try:
        names = (
            x509.load_pem_x509_certificates(Path(certificate).read_bytes())[0]
            .extensions.get_extension_for_class(x509.SubjectAlternativeName)
            .value.get_values_for_type(x509.DNSName)
        )
    except (OSError, *UNREADABLE, x509.ExtensionNotFound):
        return ()
    return () if any("*" in name for name in names) else tuple(name.lower() for name in names)


def write_all(folder: Path, files: Mapping[str, str], secret: str | None) -> None:
    """Create the folders and write all files. A file that contains the secret gets the mode 0600.

    If a symbolic link has the name of a file, the link is replaced, and its target is not changed. If a symbolic link
    has the name of a folder below `folder`, it is rejected. All new files are complete before the first old file is
    replaced. Raises `OSError`.

    Example: `write_all(Path("made"), {"plugins/a.go": "package a"}, None)`
    """
    folder.mkdir(0o755, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        new_files = []
        for name, text in files.items():
            path = folder / name
            for parent in reversed(path.relative_to(folder).parents[:-1]):
                _make_folder(folder / parent)
            if path.is_dir() and not path.is_symlink():
                raise IsADirectoryError(f"{path} is a folder; expected a file")
            new_files.append((stack.enter_context(_new_file(path, text, secret is not None and secret in text)), path))
        for new, path in new_files:
            new.replace(path)


def _make_folder(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        path.mkdir(0o755)
    if path.is_symlink() or not path.is_dir():
        raise NotADirectoryError(f"{path}: expected a folder and not a link")


@contextlib.contextmanager
def _new_file(path: Path, text: str, secret: bool) -> Iterator[Path]:
    """Write `text` to a new file in the folder of `path`, and yield the new file.

    At the end, the new file is removed, unless it was renamed.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        yield new
    finally:
        new.unlink(missing_ok=True)
