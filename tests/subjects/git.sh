#!/bin/sh
# A real program with its symbols: git, which Debian's package has none of, from Debian's source package. zlib goes into it, since the shared one has no
# symbols of its own either.
# Usage: tests/subjects/git.sh DESTINATION. Needs apt-get, make, gcc and zlib's headers; takes one to three minutes, and nothing if it is there already.
set -eu
case "$1" in /*) destination="$1" ;; *) destination="$PWD/$1" ;; esac
[ ! -x "$destination" ] || exit 0
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/parts" "$(dirname "$destination")"

# Where this machine gets its packages from, it gets their sources from; its own settings stay as they are.
for list in /etc/apt/sources.list /etc/apt/sources.list.d/debian*.list; do
    [ ! -f "$list" ] || sed -n 's/^deb /deb-src /p' "$list"
done > "$work/parts/sources.list"
for list in /etc/apt/sources.list.d/debian*.sources; do
    [ ! -f "$list" ] || sed 's/^Types:.*/Types: deb-src/' "$list" > "$work/parts/$(basename "$list")"
done
from_sources() {
    apt-get -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/parts" -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" \
        -o APT::Sandbox::User=root "$@"
}
cd "$work"
from_sources update
from_sources source --download-only git
tar xf git_*.orig.tar.*
mkdir static
cp "$(gcc -print-file-name=libz.a)" static/
cd git-*/
make -s -j"$(nproc)" CFLAGS='-O2 -g' LDFLAGS="-L$work/static" NO_CURL=1 NO_EXPAT=1 NO_GETTEXT=1 NO_OPENSSL=1 NO_PERL=1 NO_PYTHON=1 NO_TCLTK=1 git
cp git "$destination.$$"
mv "$destination.$$" "$destination"
