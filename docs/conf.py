"""The configuration of the documentation site: Sphinx with furo and MyST. `sh docs/build.sh` builds the site."""

import contextlib
import io
import re
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from unittest import mock

import django
from django.conf import settings
from docutils import nodes
from docutils.parsers.rst import Directive
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))  # the docstrings of this working copy, not those of an installed release

import mtls_middleware  # noqa: E402 (needs the path above)
from mtls_middleware.cli.main import main  # noqa: E402 (as above)

# django-oauth-toolkit's models need a configured Django.
settings.configure(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"])
django.setup()

project = "mtls-middleware"
version = release = mtls_middleware.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = []

smartquotes = False  # they would change the options of commands, such as --http

html_theme = "furo"
html_title = f"mtls-middleware {release}"
html_show_copyright = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]

# The same anchors as GitHub makes, so that a link works there and on the site.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
napoleon_use_ivar = True
napoleon_custom_sections = [("Keywords", "params_style")]
python_use_unqualified_type_names = True


class CommandHelp(Directive):
    """The help text of a command of `mtls-middleware`, as the command prints it."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the help text as a literal block."""
        printed = io.StringIO()
        columns = mock.patch.dict("os.environ", {"COLUMNS": "88"})
        with columns, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*self.arguments, "--help"])
        return [nodes.literal_block(printed.getvalue(), printed.getvalue(), language="text")]


@cache
def public_paths() -> dict[str, str]:
    """Return each exported name, with the path from which a user imports it."""
    found: dict[str, str] = {}
    for page in sorted(FOLDER.glob("reference/*.md")):
        for module in re.findall(r"automodule:: (\S+)", page.read_text("utf-8")):
            for name in getattr(import_module(module), "__all__", ()):
                found.setdefault(name, f"{module}.{name}")
    return found


def convert_code(_: Sphinx, __: str, ___: str, ____: object, _____: object, lines: list[str]) -> None:
    """Convert code in single backticks, as docstrings have it, to a link or to a literal."""

    def literal(match: re.Match[str]) -> str:
        code = " ".join(match[1].split())
        path = public_paths().get(code)
        return f"``{code}``" if path is None else f":py:obj:`{code} <{path}>`"

    text = re.sub(r"(?<!`)`([^`]+)`(?!`)", literal, "\n".join(lines))
    lines[:] = text.split("\n")


def show_titles(_: Sphinx, __: str, source: list[str]) -> None:
    """Show the title of the page or section in a link whose text is a file name, such as `[rules.md](rules.md)`."""
    source[0] = re.sub(r"\[([\w-]+\.md)\]\((\1[^)]*)\)", r"[](\2)", source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the functions of this file, and the name of HAProxy's syntax, which Pygments does not know."""
    app.connect("autodoc-process-docstring", convert_code, priority=400)
    app.connect("source-read", show_titles)
    app.add_directive("command-help", CommandHelp)
    app.add_lexer("haproxy", TextLexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
