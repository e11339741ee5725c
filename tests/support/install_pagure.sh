#!/usr/bin/env bash
# Installs Pagure, a real forge, for the tests: install_pagure.sh [FOLDER]. Does nothing that is done already.
#
# Debian 11 was the last with Pagure. Its package is taken from the mirror that this machine uses; the libraries
# that it wants come from PyPI, in versions that run on Python 3.11. The machine's apt settings stay as they are. Its
# queues need Debian's redis-server, which root gets installed here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(realpath -m "${1:-/opt/pagure}")

if ! command -v redis-server >/dev/null; then
  [ "$(id -u)" = 0 ] || { echo "redis-server is missing: sudo apt-get install redis-server" >&2; exit 1; }
  apt-get update -qq
  # The program is what is wanted: in this run level, and without systemd, its service is not started.
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server >/dev/null
fi

mkdir -p "$folder"
# Another checkout's tests may want it at the same time.
exec 9>"$folder/.lock"
flock 9
# The stamp names what it was made from, and is written last.
wanted=$(cat "$0" "$here/pagure_requirements.txt" | sha256sum)
[ "$(cat "$folder/.made-from" 2>/dev/null)" != "$wanted" ] || exit 0
echo "installing Pagure into $folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | awk '/\/debian\/*$/ && !n++')
[ -n "$mirror" ] || { echo "no mirror of Debian's main archive is known to apt: run apt-get update" >&2; exit 1; }
mkdir -p "$work"/state/lists/partial "$work"/cache/archives/partial
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bullseye main" > "$work/sources.list"
: > "$work/status"
cat > "$work/apt.conf" <<EOF
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State "$work/state";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
APT::Sandbox::User "";
EOF
export APT_CONFIG="$work/apt.conf"
apt-get update -qq
(cd "$work" && apt-get download -qq pagure)
dpkg-deb -x "$work"/pagure_*.deb "$work/pagure"

"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/pip" install -q -q --disable-pip-version-check -r "$here/pagure_requirements.txt"
packages=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp -r "$work"/pagure/usr/lib/python3/dist-packages/pagure* "$packages"
mkdir -p "$folder/share"
cp -r "$work/pagure/usr/share/pagure" "$folder/share/"
# Styles and scripts of other packages: without them the pages are plain, and all else works.
find "$folder/share/pagure" -xtype l -delete
sed -i "s|\"/usr/share/pagure|\"$folder/share/pagure|" "$packages/pagure/flask_app.py"
# Not every Python has it, and only the gitolite back end uses it.
"$folder/bin/python" -c 'import _gdbm' 2>/dev/null || echo 'class error(OSError): pass' > "$packages/_gdbm.py"
# Git runs the hooks, in each repository by a link to these files.
sed -i "1s|.*|#!$folder/bin/python|" "$packages"/pagure/hooks/files/{hookrunner,pre-receive,post-receive}
cp "$work/pagure/usr/bin/pagure-admin" "$folder/bin/"
sed -i "1s|.*|#!$folder/bin/python|" "$folder/bin/pagure-admin"
"$folder/bin/python" -W ignore -m compileall -q "$packages/pagure"
printf '%s\n' "$wanted" > "$folder/.made-from"
