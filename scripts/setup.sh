#!/bin/sh
# Set up a checkout: system packages, then the Python environment from requirements.lock, then the project.
# Steps that are already done are skipped. Usage: [PYTHON=python3.12] scripts/setup.sh [VENV]
set -eu

venv=${1:-.venv}
cd "$(dirname "$0")/.."

# Pairs of a program and its Debian package. The tests use chromium to look at pages, tmux for terminals, docker-compose
# to check docker-compose.yml, and debootstrap to create a base image for the Dockerfile; the documented commands use
# curl and jq. Trivy is not listed, because the locked wheel of the extra [sandbox] contains it, see docs/trivy.md.
needed='buildah:buildah runc:runc slirp4netns:slirp4netns ip:iproute2 git:git docker-registry:docker-registry busybox:busybox-static skopeo:skopeo
  setpriv:util-linux newuidmap:uidmap chromium:chromium tmux:tmux docker-compose:docker-compose debootstrap:debootstrap curl:curl jq:jq'

missing=
for pair in $needed; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
# Debian keeps the server's programs off PATH.
command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 ||
  missing="$missing postgresql"

if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086 # one word per package
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
  else
    echo "setup: these packages are missing; install them, then run this again:" >&2
    echo "  sudo apt-get install$missing" >&2
    exit 1
  fi
fi

# The stamp records what the environment was made from; if it is unchanged, there is nothing to do.
stamp=$venv/.made-from
wanted=$(cat requirements.lock pyproject.toml plugins/delivery_chain/__init__.py | sha256sum; pwd)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && [ -x "$venv/bin/delivery-chain" ]; then
  exit 0
fi

python=
for name in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
  # Run it, too: a version manager may have a shim for a version that is not installed.
  if "$name" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
    python=$name
    break
  fi
done
if [ -z "$python" ]; then
  echo "setup: expected Python 3.11, 3.12 or 3.13 with its venv module, found none" >&2
  echo "  sudo apt-get install python3 python3-venv" >&2
  exit 1
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# Airflow starts several times faster from bytecode, so write it whatever the environment says.
unset PYTHONDONTWRITEBYTECODE
echo "installing the locked requirements into $venv"
pip="$venv/bin/python -m pip -qq --disable-pip-version-check --no-input"
$pip install --require-hashes --compile -r requirements.lock
$pip install --no-deps --no-build-isolation -e .
"$venv/bin/python" -m compileall -q plugins
printf '%s\n' "$wanted" >"$stamp"
