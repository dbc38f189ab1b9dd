"""The command `mtls-middleware dev-ca`: a throwaway CA with certificates for a server and a client, for development.

The CA's key is not written, so the CA can issue no further certificates. A server that restarts when a file changes
does not watch these files: their names do not end in `.py`, and the name of the folder begins with a dot.
"""

import argparse
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mtls_middleware.cli.terminal import write_json
from mtls_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from mtls_middleware.testing import IssuedCertificate
    from mtls_middleware.testing.template import CertificateOptions

_FOLDER = ".mtls-dev"
_NAMES = ("server", "client")
_FILES = ("ca.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem")
_NOT_OURS = "not the files that dev-ca writes; give another folder, or replace the files with --renew"
_AUTHORITY = "CN=Development CA"
_SUBJECT = "CN=client"
# The default lifetime in days. The layers log a warning about a certificate that expires in less than 30 days.
_DAYS = 90
# If a certificate expires in less than this time, the command replaces the existing files.
_DAY = timedelta(days=1)

_NEXT = """\
wrote {folder}/ca.pem, and a certificate and key for the server (server.pem, server-key.pem) and for the client
(client.pem, client-key.pem, subject {subject}); they are valid until {end:%Y-%m-%d}

Start one of these servers:
  gunicorn --certfile {folder}/server.pem --keyfile {folder}/server-key.pem --ca-certs {folder}/ca.pem \\
      --cert-reqs 1 --worker-class gthread --bind 127.0.0.1:8443 MODULE:APP
  uvicorn --ssl-certfile {folder}/server.pem --ssl-keyfile {folder}/server-key.pem --ssl-ca-certs {folder}/ca.pem \\
      --ssl-cert-reqs 1 --http mtls_middleware.servers.uvicorn_tls:H11 --port 8443 MODULE:APP
  MTLS_DEV_CA={folder} flask --app MODULE run --port 8443 --cert mtls_middleware.testing.development.context

Send requests with the client certificate, and without one:
  {curl} --cert {folder}/client.pem --key {folder}/client-key.pem https://localhost:8443/
  {curl} https://localhost:8443/
"""

# The options for the names of the client.
_NAME_OPTIONS = (
    ("--dns", "DNS name"),
    ("--uri", "URI, for example a SPIFFE ID"),
    ("--email", "email address"),
    ("--upn", "user principal name, for example alice@corp.example"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command `dev-ca` to `parser`."""
    parser.add_argument("--output", metavar="FOLDER", default=_FOLDER, help=f"the folder; default: {_FOLDER}")
    parser.add_argument(
        "--subject", metavar="DN", help=f"the client's subject, for example CN=billing,O=Acme; default: {_SUBJECT}"
    )
    for option, name in _NAME_OPTIONS:
        parser.add_argument(option, action="append", metavar="NAME", help=f"a {name} of the client; may be repeated")
    parser.add_argument(
        "--host", action="append", metavar="HOST", help="a name of the server; default: localhost and its addresses"
    )
    parser.add_argument("--days", type=int, help=f"days until the certificates expire, 1 to 365; default: {_DAYS}")
    parser.add_argument("--renew", action="store_true", help="replace valid files of an earlier call")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Write the files, unless valid files exist, and print how to use them. Return 0.

    Raises `ConfigurationError` if an option is invalid, or if the files cannot be written.
    """
    folder = Path(options.output)
    days = _DAYS if options.days is None else options.days
    if not 1 <= days <= 365:
        raise ConfigurationError(f"--days {days}: expected 1 to 365, for example --days 30")
    try:
        issued = None if options.renew else _existing(folder)
        if issued is None:
            issued = _write(folder, options, days)
        elif any((options.subject, *_names(options).values(), options.host, options.days)):
            raise ConfigurationError(f"--output {folder} has files of an earlier call; add --renew to replace them")
    except ConfigurationError:
        raise
    except OSError as error:
        raise ConfigurationError(f"--output {folder}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigurationError(f"a name of a certificate is invalid: {error}") from error
    end = issued["client"].x509.not_valid_after_utc
    if options.json:
        files = {"ca": str(folder / "ca.pem")}
        for name in _NAMES:
            files |= {name: str(folder / f"{name}.pem"), f"{name}_key": str(folder / f"{name}-key.pem")}
        write_json({"files": files, "not_valid_after": end.isoformat(), "thumbprint": issued["client"].thumbprint})
        return 0
    quoted = shlex.quote(str(folder))
    subject = issued["client"].x509.subject.rfc4514_string()
    sys.stdout.write(
        _NEXT.format(folder=quoted, subject=ascii(subject), end=end, curl=f"curl --cacert {quoted}/ca.pem")
    )
    return 0


def _existing(folder: Path) -> "Mapping[str, IssuedCertificate] | None":
    """Return the certificates of an earlier call. Returns `None` if a file is missing or a certificate expires soon.

    Raises `ConfigurationError` if files with these names exist, and this command did not write them.
    """
    from mtls_middleware.testing import IssuedCertificate  # imported here, because only this command needs the package

    try:
        found = {name: IssuedCertificate.read(folder, name=name) for name in _NAMES}
    except FileNotFoundError:
        present = [name for name in _FILES if (folder / name).exists()]
        if not present:
            return None
        raise ConfigurationError(f"--output {folder} has {' and '.join(present)}, but {_NOT_OURS}") from None
    except ValueError as error:
        raise ConfigurationError(f"--output {folder}: {error}: {_NOT_OURS}") from error
    if {each.x509.issuer.rfc4514_string() for each in found.values()} != {_AUTHORITY}:
        raise ConfigurationError(f"--output {folder} has server.pem and client.pem, but {_NOT_OURS}")
    ends = [each.x509.not_valid_after_utc for each in found.values()]
    return found if (folder / "ca.pem").exists() and min(ends) - datetime.now(UTC) > _DAY else None


def _names(options: argparse.Namespace) -> "CertificateOptions":
    """Return the client's subject alternative names."""
    return {
        "dns": options.dns or (),
        "uris": options.uri or (),
        "emails": options.email or (),
        "user_principal_names": options.upn or (),
    }


def _write(folder: Path, options: argparse.Namespace, days: int) -> "Mapping[str, IssuedCertificate]":
    # Imported here, because only this command needs the package.
    from mtls_middleware.testing import CertificateAuthority

    end = datetime.now(UTC) + timedelta(days=days)
    authority = CertificateAuthority(_AUTHORITY, not_after=end)
    of_client: CertificateOptions = {**_names(options), "not_after": end}
    client = authority.issue(options.subject or _SUBJECT, **of_client)
    server = authority.server(*(options.host or ()), not_after=end)
    is_new = not folder.exists()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca = folder / "ca.pem"
    ca.unlink(missing_ok=True)  # a link with this name is removed, and not followed
    with ca.open("x", encoding="ascii") as file:
        file.write(authority.pem)
    # Git must ignore the keys. An existing folder may contain files of a project, so only a new folder is ignored.
    if is_new:
        (folder / ".gitignore").write_text("*\n", "ascii")
    elif not (folder / ".gitignore").exists():
        sys.stderr.write(f"git does not ignore {folder}: do not commit the keys in it\n")
    issued = {"server": server, "client": client}
    for name, each in issued.items():
        each.write(folder, name=name)
    return issued
