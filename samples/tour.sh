#!/bin/sh
# Installs the dependencies of the samples into .venv, then runs the tour. With --serve, the servers keep running.
set -eu
cd "$(dirname "$0")/.."
sh .ci/environment samples
exec .venv/bin/python samples/tour "$@"
