#!/bin/sh
# Installs what the tests need into .venv, then checks and tests everything. Arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
sh .ci/environment dev
command -v curl >/dev/null || { apt-get update -q && apt-get install -qy --no-install-recommends curl; }
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest -n auto "$@"
