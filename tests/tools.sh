#!/bin/sh
# Sees to it that what the tests need is there, beside Rust: `make tools`.
#
# A line for each: the Debian package that has it, and a command that succeeds where it is there. What is missing is
# installed with apt-get, as root or through sudo; where that can't be, it is named, and `make test` ends here.
set -eu

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
  need gcc          'cc --version'
  need golang-go    'go version'
  need nodejs       'node --version'
  need npm          'npm --version'
  need python3      'python3 --version'
  need postgresql-15 'test -x /usr/lib/postgresql/15/bin/postgres || postgres --version'
  need mariadb-server 'PATH=$PATH:/usr/sbin; mariadbd --version && command -v mariadb-install-db && mariadb --version'
  need python3-venv "python3 -c 'import ensurepip, venv'"
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

look
[ -z "$missing" ] && exit
# What it could not do is found below.
install || true
look
if [ -n "$missing" ]; then
  echo "the tests need more than is here. Install what makes these commands succeed, and do it again:$told" >&2
  exit 1
fi
