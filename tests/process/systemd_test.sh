#!/usr/bin/env bash
# The units under a real systemd, which is PID 1 of namespaces of its own on an overlay of this machine's root: a tracker
# as a dynamic user that is handed the mesh key, a node with the hardening of its unit, gets both ways, kill -9, a process
# that hangs, and an orderly end. Nothing of this machine is changed.
#
#   tests/process/systemd_test.sh BUILD-DIRECTORY        exits with 77 where it cannot run
set -euo pipefail
build=$(realpath "${1:-build}")
. "$(dirname "$0")/booted.sh"
can_boot_systemd
[ -x /lib/systemd/systemd ] && [ -x /bin/systemctl ] || skip "no systemd is installed"
place=$(mktemp -d /var/tmp/meshswarm-systemd-XXXXXX)
trap 'rm -rf "$place"' EXIT
mkdir "$place/mnt" "$place/out"
chmod 755 "$place"

# What happens within, as a unit of that systemd.
cat >"$place/inner" <<'INNER'
is_another() { local now; now=$(systemctl show -p MainPID --value "$1"); [ "$now" -gt 1 ] && [ "$now" != "$2" ] && systemctl -q is-active "$1"; }
mkdir -p /etc/mesh /tmp/minimega/files /tmp/other /etc/systemd/system/mesh{seed,tracker}.service.d
(umask 077; meshkey new >/etc/mesh/mesh.key)
printf 'key = /etc/mesh/mesh.key\ntracker = 127.0.0.1:6969\n' >/etc/mesh/mesh.conf
printf '[Service]\nWatchdogSec=3\n' | tee /etc/systemd/system/meshseed.service.d/t.conf >/etc/systemd/system/meshtracker.service.d/t.conf
# As the unit's comment has it.
sed -n 's/^#\(LoadCredential\|Environment\)=/\1=/p' /etc/systemd/system/meshtracker.service >>/etc/systemd/system/meshtracker.service.d/t.conf
systemctl daemon-reload
head -c 5M /dev/urandom >/tmp/minimega/files/x.img
systemctl start meshtracker meshseed
[ "$(ps -o uid= -p "$(systemctl show -p MainPID --value meshtracker)")" -ne 0 ]
meshseed --files /tmp/other --name other --listen 127.0.0.1:7001 >/mnt/other.log 2>&1 &
eventually has x.img --files /tmp/other
meshget --quiet --files /tmp/other x.img
cmp /tmp/other/x.img /tmp/minimega/files/x.img
head -c 3M /dev/urandom >/tmp/other/y.img
eventually has y.img
meshget --quiet y.img
cmp /tmp/other/y.img /tmp/minimega/files/y.img
for signal in KILL STOP; do # of which the second is the watchdog's to find
    for unit in meshseed meshtracker; do
        pid=$(systemctl show -p MainPID --value $unit)
        kill -$signal "$pid"
        eventually is_another $unit "$pid"
    done
done
eventually has x.img
eventually has y.img --files /tmp/other
# The files directory goes: the same process begins anew, and the watchdog has nothing to find.
pid=$(systemctl show -p MainPID --value meshseed)
mv /tmp/minimega/files /tmp/minimega/old
eventually has y.img
meshget --quiet y.img
cmp /tmp/other/y.img /tmp/minimega/files/y.img
sleep 4
[ "$(systemctl show -p MainPID --value meshseed)" = "$pid" ]
begun=$(date +%s%N)
systemctl stop meshseed meshtracker
[ $((($(date +%s%N) - begun) / 1000000)) -lt 5000 ]
[ "$(systemctl show -p Result --value meshseed)" = success ]
[ "$(systemctl show -p Result --value meshtracker)" = success ]
echo passed >/mnt/result
INNER

cat >"$place/prepare" <<'PREPARE'
cp "$build"/bin/mesh{seed,tracker,get,file,key} usr/local/bin/
rm -rf etc/systemd/system etc/mesh root/.config/mesh.conf
mkdir -p etc/systemd/system
sed 's#^ExecStart=.*/#ExecStart=/usr/local/bin/#' "$build/generated/meshseed.service" >etc/systemd/system/meshseed.service
sed 's#^ExecStart=.*/#ExecStart=/usr/local/bin/#' "$build/generated/meshtracker.service" >etc/systemd/system/meshtracker.service
PREPARE

boot_systemd "$place" / "$build"
