#!/bin/sh
# Installs what the samples need into .venv, then runs the tour. Arguments go to it: --serve leaves the servers running.
set -eu
cd "$(dirname "$0")/.."
sh .ci/environment samples
exec .venv/bin/python samples/tour "$@"
