#!/bin/sh
# Builds the documentation site into build/site, or into the folder that the argument names. A warning or a broken link
# fails the build. PYTHON: another Python than that of .venv, with the packages of the group `docs`.
set -eu
out=$(realpath -m "${1:-$(dirname "$0")/../build/site}")
cd "$(dirname "$0")/.."
[ -n "${PYTHON:-}" ] || .venv/bin/python -m sphinx --version >/dev/null 2>&1 || sh .ci/environment docs
exec "${PYTHON:-.venv/bin/python}" -m sphinx --fail-on-warning --keep-going --quiet -b html docs "$out"
