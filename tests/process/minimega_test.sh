#!/usr/bin/env bash
# scripts/minimega/minimega-getter.patch applies to a minimega and builds: MINIMEGA_SRC names a checkout of it (2.9 or 3.1),
# which is left as it is. Needs Go and libpcap besides. A script stands for meshget: what it prints is taken.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
if [ -z "${MINIMEGA_SRC:-}" ]; then
    echo "SKIPPED: MINIMEGA_SRC names no checkout of minimega"
    exit 77
fi
command -v go >/dev/null || { echo "SKIPPED: there is no Go to build minimega with"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for part in cmd internal pkg vendor go.mod go.sum; do
    [ ! -e "$MINIMEGA_SRC/$part" ] || cp -r "$MINIMEGA_SRC/$part" "$work/"
done
cd "$work"
patch -p1 --fuzz=0 < "$here/scripts/minimega/minimega-getter.patch"
# As its own scripts/build.bash makes it.
printf 'package version\n\nvar (\n\tVersion = "test"\n\tRevision = "test"\n\tDate = "test"\n)\n' > internal/version/version.go
go build -mod=vendor -o "$work/minimega" ./cmd/minimega
"$work/minimega" -h > "$work/help" 2>&1 || true
grep -q -- '-getter' "$work/help"

# With a program in place of meshget that says what it was asked for: file get, and file: in a command.
mkdir "$work/base" "$work/files"
cat > "$work/getter" <<'G'
#!/bin/sh
[ "$1 $2" = "--quiet --" ] || exit 2
echo "$3" >> "$ASKED"
case $3 in
    *missing*) echo "missing: not found on any of 2 nodes" >&2; exit 3 ;;
    *here*) echo "no tracker is reachable" >&2; exit 4 ;;
    *'*'*) printf '/somewhere/a\n/somewhere/b\n' ;;
    *) echo "/somewhere/${3##*[:/]}" ;;
esac
G
chmod +x "$work/getter"
export ASKED=$work/asked
touch "$ASKED"
"$work/minimega" -nostdin -base "$work/base" -filepath "$work/files" -getter "$work/getter" -level error &
daemon=$!
trap 'kill "$daemon" 2>/dev/null || true; rm -rf "$work"' EXIT
ask() { "$work/minimega" -base "$work/base" -e "$@"; }
for _ in $(seq 100); do ask version >/dev/null 2>&1 && break; sleep 0.1; done
ask file get foo.qcow2
grep -qx foo.qcow2 "$ASKED"
said=$(ask file get missing 2>&1) || true
grep -q "not found on any" <<< "$said"
ask vm config disk file:dir/foo.qcow2
grep -qx file:dir/foo.qcow2 "$ASKED"
disk=$(ask vm config disk)
grep -q /somewhere/foo.qcow2 <<< "$disk"
touch "$work/files/here.qcow2"
ask vm config disk file:here.qcow2
disk=$(ask vm config disk)
grep -q "$work/files/here.qcow2" <<< "$disk"
said=$(ask vm config disk 'file:*.img' 2>&1) || true
grep -q "names several files" <<< "$said"
ask vm config kernel http://host/a/kernel
grep -qx http://host/a/kernel "$ASKED"
echo "minimega with -getter: file get, file:, http://"
