#!/bin/sh
# Builds the documentation site into build/site, or into the folder that the argument names. A warning or a broken link
# fails the build. PYTHON: another Python than that of .venv, with the packages of the group `docs`.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/build/site}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$root"
[ -n "${PYTHON:-}" ] || .venv/bin/python -m sphinx --version >/dev/null 2>&1 || sh .ci/environment docs
exec "${PYTHON:-.venv/bin/python}" -m sphinx --fail-on-warning --keep-going --quiet -b html docs "$out"
