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
said=$(lintian --allow-root --fail-on error,warning $(cat "$place/new") 2>&1) || { echo "FAILED: lintian: $said"; exit 1; }
has_file() { dpkg-deb -c "$1" | grep " ./usr/$2$" >/dev/null; }
for file in bin/meshmount share/man/man1/meshmount.1.gz share/bash-completion/completions/meshmount; do
    has_file "$(tail -n 1 "$place/new")" "$file" || { echo "FAILED: $file is not in the second package"; exit 1; }
    ! has_file "$(head -n 1 "$place/new")" "$file" || { echo "FAILED: $file is in the first package"; exit 1; }
done
mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,iproute2,fuse3 \
    --customize-hook="cp $(head -n 1 "$place/old") \"\$1/tmp/old.deb\"" \
    --customize-hook="cp $(head -n 1 "$place/new") \"\$1/root/new.deb\"" \
    --customize-hook="cp $(tail -n 1 "$place/new") \"\$1/root/fuse.deb\"" \
    --customize-hook="cp $source/contrib/mount/mesh.mount \"\$1/root\"" \
    --customize-hook='find "$1/etc" "$1/usr" "$1/var" -iname "*mesh*" | sort >"$1/root/before"' \
    --customize-hook='chroot "$1" apt-get install -y -qq --no-install-recommends /tmp/old.deb >/dev/null' \
    bookworm "$place/root" >"$place/mmdebstrap.log" 2>&1 ||
    { grep -qE "Failed to fetch|Temporary failure resolving" "$place/mmdebstrap.log" && skip "no Debian mirror is reached"
      tail -n 20 "$place/mmdebstrap.log"; echo "FAILED: the package cannot be installed"; exit 1; }

cat >"$place/inner" <<'INNER'
set -x
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
for page in meshseed.8 meshtracker.8 meshget.1 meshfile.1 meshkey.1 meshvol.1 mesh-rollout.8 mm-disk.1; do [ -e /usr/share/man/man${page#*.}/$page.gz ] || grep -rq man /etc/dpkg/dpkg.cfg.d; done

meshkey init >/mnt/init
grep -q "systemctl enable --now meshtracker meshseed" /mnt/init
[ "$(stat -c %a /etc/mesh/mesh.key)" = 600 ]
systemctl -q enable --now meshtracker meshseed
# Of root's rights the node keeps that to ask who writes to a file, the tracker none.
for unit in meshtracker meshseed; do [ "$(user_of "$(pid $unit)")" = mesh ]; done
grep -q "^CapEff:.0*$" /proc/"$(pid meshtracker)"/status
grep -q "^CapEff:.0*10000000$" /proc/"$(pid meshseed)"/status
[ "$(stat -c %a:%U /run/mesh)" = 755:mesh ]

# The journal has a priority for each line.
systemctl stop meshtracker
eventually sh -c 'journalctl -q -u meshseed -p warning | grep -q "tracker head:6969"'
fails sh -c 'journalctl -q -u meshseed -p warning | grep -q scanned'
systemctl start meshtracker

# A member of the group puts a file there; another node has it; one who is no member gets nothing.
useradd -m -G mesh alice
useradd -m bob
runuser -u alice -- sh -c 'head -c 5M /dev/urandom >/var/lib/mesh/files/x.img'
mkdir /tmp/other
meshseed --files /tmp/other --user root --control /tmp/other/.mesh/control --name other --listen 127.0.0.1:7001 >/mnt/other.log 2>&1 &
other="--files /tmp/other --control /tmp/other/.mesh/control"
# A list may be the tracker's; of the node itself this is.
eventually meshfile $other cache
eventually has x.img $other
meshget --quiet $other x.img
cmp /tmp/other/x.img /var/lib/mesh/files/x.img
head -c 3M /dev/urandom >/tmp/other/y.img
eventually has y.img
runuser -u alice -- meshget --quiet y.img
cmp /tmp/other/y.img /var/lib/mesh/files/y.img
fails runuser -u bob -- meshget --quiet y.img 2>/mnt/bob.log
# What somebody has open for writing is not offered, whoever's it is.
runuser -u alice -- sh -c 'exec 3>/var/lib/mesh/files/open.img; head -c 1M /dev/zero >&3; echo >/tmp/is-open; exec sleep 60' &
eventually test -e /tmp/is-open
runuser -u alice -- sh -c 'echo z >/var/lib/mesh/files/later.img'
eventually has later.img $other
fails has open.img $other
for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" != sleep ] || kill "${p#/proc/}" || true; done
eventually has open.img $other
meshfile doctor
chmod 600 /var/lib/mesh/files/later.img && chown root /var/lib/mesh/files/later.img
meshfile doctor | grep -q "^WARN.readable./var/lib/mesh/files/later.img: cannot be read by user mesh"
(umask 077; echo 0123456789abcdef0123456789abcdef >/etc/mesh/http-token)
printf 'http = "localhost:8080"\nhttp-token = "/etc/mesh/http-token"\ntracker-http = "localhost:8090"\ntracker-http-token = "/etc/mesh/http-token"\n' >>/etc/mesh/mesh.conf
systemctl restart meshtracker meshseed
eventually has x.img

# An upgrade keeps the configuration, and has what runs begin anew.
echo 'max-active = 3' >>/etc/mesh/mesh.conf
before=$(pid meshseed)
tracker=$(pid meshtracker)
cat >/tmp/ssh <<'SSH'
#!/bin/bash
while [ "$1" != -- ]; do shift; done
exec sh -c "$3"
SSH
chmod +x /tmp/ssh
mesh-rollout --ssh /tmp/ssh --deb /root/new.deb head >/mnt/rollout.log
grep -qxF "head: had the key, meshseed runs" /mnt/rollout.log
[ "$(pid meshseed)" != "$before" ]
[ "$(pid meshtracker)" != "$tracker" ]
systemctl -q is-active meshseed meshtracker
grep -q 'max-active = 3' /etc/mesh/mesh.conf
eventually has x.img
kill %1
wait || true
[ "$(dpkg-query -W -f='${Version}' meshswarm)" = 0.0.2 ]

# A disk for a VM, where the package has room for them, of an image that belongs to another user. No tool of others is here: it is a copy.
[ "$(meshvol clone x.img web1)" = /var/lib/meshvol/web1 ]
cmp /var/lib/mesh/files/x.img /var/lib/meshvol/web1
fails meshvol drop web2
meshvol drop web1
rm -r /var/lib/meshvol
fails runuser -u bob -- meshvol --config /etc/mesh/mesh.conf -c /nonexistent list

# The mesh as a tree, by a unit of systemd, for everybody; it outlives a restart of the node, and is there again after its own end.
fails test -e /usr/bin/meshmount
dpkg -i /root/fuse.deb
if [ -c /dev/fuse ]; then
cp /root/mesh.mount /etc/systemd/system/
systemctl daemon-reload
systemctl start mesh.mount
grep -q "^meshswarm /mesh fuse.meshmount ro,nosuid,nodev," /proc/mounts
runuser -u bob -- cmp /mesh/files/x.img /var/lib/mesh/files/x.img
runuser -u bob -- grep -q "head:6969, registered" /mesh/cluster/info
systemctl restart meshseed
eventually runuser -u bob -- cmp /mesh/files/x.img /var/lib/mesh/files/x.img
kill -9 "$(cat /sys/fs/cgroup/system.slice/mesh.mount/cgroup.procs)"
fails ls /mesh
systemctl restart mesh.mount
runuser -u bob -- cmp /mesh/files/x.img /var/lib/mesh/files/x.img
systemctl stop mesh.mount
fails grep -q fuse.meshmount /proc/mounts
rm /etc/systemd/system/mesh.mount
rmdir /mesh
else
    echo "SKIPPED: no /dev/fuse, so nothing is mounted" | tee /mnt/skipped
fi

# As it is beside minimega; a rollout that changes nothing cuts nobody off.
sed -i 's#^files = .*#files = "/tmp/minimega/files"#; s#^user = .*#user = "root"#' /etc/mesh/mesh.conf
systemctl restart meshseed
[ "$(user_of "$(pid meshseed)")" = root ]
head -c 1M /dev/urandom >/tmp/minimega/files/m.img
eventually has m.img
before=$(pid meshseed)
mesh-rollout --ssh /tmp/ssh head
[ "$(pid meshseed)" = "$before" ]
meshfile doctor
# One's own node, of a user who is not the service's.
echo 'user = "mesh"' >/tmp/bob.conf
runuser -u bob -- meshseed --config /tmp/bob.conf --files /home/bob/files --print-identity

# Removed, it is gone but for what is the user's; purged, all of it is.
apt-get remove -y -qq meshswarm
fails test -e /usr/bin/meshget
fails test -e /usr/bin/meshmount
[ -e /var/lib/mesh/files/x.img ]
[ -e /etc/mesh/mesh.conf ]
usermod -G '' alice # a group that has members is the administrator's, and stays
apt-get purge -y -qq meshswarm meshswarm-fuse
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
