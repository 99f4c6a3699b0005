#!/usr/bin/env bash
# The package in a fresh Debian 12, with nothing else: installed from an older one, set up by meshkey init, used by the user it
# makes and by a member of its group, upgraded while it runs, and purged. With a systemd of its own; nothing of this machine
# is changed.
#
#   tests/process/package_test.sh BUILD-DIRECTORY        exits with 77 where it cannot run
set -euo pipefail
build=$(realpath "${1:-build}")
. "$(dirname "$0")/booted.sh"
can_boot_systemd
for tool in mmdebstrap dh fakeroot lintian; do command -v $tool >/dev/null || skip "$tool is not installed"; done
source=$(realpath "$(dirname "$0")/../..")
place=$(mktemp -d /var/tmp/meshswarm-package-XXXXXX)
trap 'rm -rf "$place"' EXIT
mkdir "$place/mnt" "$place/out" "$place/packages"
chmod 755 "$place"

"$source/scripts/package" --built --version 0.0.1 --out "$place/packages" >"$place/old"
"$source/scripts/package" --built --version 0.0.2 --out "$place/packages" >"$place/new"
said=$(lintian --allow-root --fail-on error,warning "$(cat "$place/new")" 2>&1) || { echo "FAILED: lintian: $said"; exit 1; }
mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,iproute2 \
    --customize-hook="cp $(cat "$place/old") \"\$1/tmp/old.deb\"" \
    --customize-hook="cp $(cat "$place/new") \"\$1/root/new.deb\"" \
    --customize-hook='find "$1/etc" "$1/usr" "$1/var" -iname "*mesh*" | sort >"$1/root/before"' \
    --customize-hook='chroot "$1" apt-get install -y -qq --no-install-recommends /tmp/old.deb >/dev/null' \
    bookworm "$place/root" >"$place/mmdebstrap.log" 2>&1 ||
    { grep -qE "Could not|Failed to fetch|Temporary failure" "$place/mmdebstrap.log" && skip "no Debian mirror is reached"
      tail -n 20 "$place/mmdebstrap.log"; echo "FAILED: the package cannot be installed"; exit 1; }

cat >"$place/inner" <<'INNER'
exec >/mnt/log 2>&1
set -eux
trap 'echo "failed: line $LINENO" >/mnt/result; systemctl --no-pager status meshtracker meshseed || true
      journalctl --no-pager -u meshtracker -u meshseed -n 60 || true' ERR
set -E
eventually() { for _ in $(seq 150); do "$@" && return 0; sleep 0.2; done; echo "never: $*"; return 1; }
has() { meshfile "${@:2}" list | grep -q "$1"; }
fails() { if "$@"; then echo "should have failed: $*"; return 1; fi; }
user_of() { getent passwd "$(awk '/^Uid:/ { print $2 }' /proc/"$1"/status)" | cut -d: -f1; }
pid() { systemctl show -p MainPID --value "$1"; }
export DEBIAN_FRONTEND=noninteractive
hostname head
echo 127.0.0.1 head >>/etc/hosts

# Asks nothing, starts nothing.
getent passwd mesh
[ "$(stat -c %U:%G:%a /var/lib/mesh/files)" = mesh:mesh:2775 ]
fails systemctl -q is-active meshseed
fails systemctl -q is-enabled meshseed
for page in meshseed.8 meshtracker.8 meshget.1 meshfile.1 meshkey.1 mesh-rollout.8 mm-disk.1; do [ -e /usr/share/man/man${page#*.}/$page.gz ] || grep -rq man /etc/dpkg/dpkg.cfg.d; done

meshkey init >/mnt/init
grep -q "systemctl enable --now meshtracker meshseed" /mnt/init
[ "$(stat -c %a /etc/mesh/mesh.key)" = 600 ]
systemctl -q enable --now meshtracker meshseed
for unit in meshtracker meshseed; do [ "$(user_of "$(pid $unit)")" = mesh ]; grep -q "^CapEff:[^1-9a-f]*$" /proc/"$(pid $unit)"/status; done
[ "$(stat -c %a:%U /run/mesh)" = 755:mesh ]

# A member of the group puts a file there; another node has it; one who is no member gets nothing.
useradd -m -G mesh alice
useradd -m bob
runuser -u alice -- sh -c 'head -c 5M /dev/urandom >/var/lib/mesh/files/x.img'
mkdir /tmp/other
meshseed --files /tmp/other --user root --control /tmp/other/.mesh/control --name other --listen 127.0.0.1:7001 >/mnt/other.log 2>&1 &
other="--files /tmp/other --control /tmp/other/.mesh/control"
eventually has x.img $other
meshget --quiet $other x.img
cmp /tmp/other/x.img /var/lib/mesh/files/x.img
head -c 3M /dev/urandom >/tmp/other/y.img
eventually has y.img
runuser -u alice -- meshget --quiet y.img
cmp /tmp/other/y.img /var/lib/mesh/files/y.img
fails runuser -u bob -- meshget --quiet y.img 2>/mnt/bob.log
meshfile doctor
meshfile doctor | cut -f1 | sort -u >/mnt/levels

# An upgrade keeps the configuration, and has what runs begin anew.
echo 'max-active = 3' >>/etc/mesh/mesh.conf
before=$(pid meshseed)
tracker=$(pid meshtracker)
dpkg --force-confold -i /root/new.deb
[ "$(pid meshseed)" != "$before" ] && [ "$(pid meshtracker)" != "$tracker" ]
systemctl -q is-active meshseed meshtracker
grep -q 'max-active = 3' /etc/mesh/mesh.conf
eventually has x.img
kill %1
wait || true
[ "$(dpkg-query -W -f='${Version}' meshswarm)" = 0.0.2 ]

# Removed, it is gone but for what is the user's; purged, all of it is.
apt-get remove -y -qq meshswarm
fails test -e /usr/bin/meshget
[ -e /var/lib/mesh/files/x.img ] && [ -e /etc/mesh/mesh.conf ]
usermod -G '' alice # a group that has members is the administrator's, and stays
apt-get purge -y -qq meshswarm
fails getent passwd mesh
fails getent group mesh
[ ! -e /run/mesh ]
find /etc /usr /var -iname '*mesh*' ! -path '/var/lib/apt/*' ! -path '/var/cache/*' ! -path '/var/log/*' | sort >/mnt/after
diff /root/before /mnt/after
echo passed >/mnt/result
INNER

cat >"$place/prepare" <<'PREPARE'
mkdir -p etc/systemd/system usr/local/bin
PREPARE

boot_systemd "$place" "$place/root" "$build"
