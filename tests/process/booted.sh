# A real systemd, as PID 1 of namespaces of its own on an overlay of a root, that runs one script as a unit and ends. Sourced by
# the tests that take one.
#
#   boot_systemd PLACE ROOT     PLACE: a directory with `inner`, the script, whose /mnt is PLACE/out, and which has `eventually`
#                               and `has`, and ends with "passed" in /mnt/result; and with `prepare`, which is
#                               sourced beforehand with the root as the working directory, and $build. Says and exits as a test
#                               does: 77 where it cannot run.
skip() { echo "SKIPPED: $*"; exit 77; }
can_boot_systemd() {
    [ "$(id -u)" = 0 ] || skip "units under systemd need root"
    grep -q overlay /proc/filesystems || modprobe overlay 2>/dev/null || skip "the kernel has no overlay file system"
}
boot_systemd() {
    local place=$1 root=$2 build=$3 status=0
    cat >"$place/boot" <<'BOOT'
set -eu
build=$2
mount --make-rprivate /
mount -t tmpfs tmpfs "$1/mnt"
cd "$1/mnt"
mkdir up work root
mount -t overlay overlay -o lowerdir="$3",upperdir=up,workdir=work root || exit 77
cd root
mount -t proc proc proc
mount --rbind /sys sys
for place in run tmp var/tmp; do mount -t tmpfs tmpfs $place; done
umount -R sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 sys/fs/cgroup || exit 77
mount --rbind /dev dev
mount --bind "$1/out" mnt
. "$1/prepare"
# Nothing of what the machine itself is set up by.
for unit in systemd-{udevd,udev-trigger,journal-flush,random-seed,sysctl,modules-load,timesyncd,binfmt,update-utmp,remount-fs}.service \
    getty@.service console-getty.service dev-{hugepages,mqueue}.mount sys-kernel-{debug,tracing}.mount \
    sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.{automount,mount}; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
cat >usr/local/bin/inner <<'PRELUDE'
exec >/mnt/log 2>&1
set -eu
trap 'echo "failed: line $LINENO" >/mnt/result; systemctl --no-pager status meshtracker meshseed || true
      journalctl --no-pager -u meshtracker -u meshseed -u mesh.mount -t meshmount -n 60 || true' ERR
set -E
eventually() { for _ in $(seq 150); do "$@" && return 0; sleep 0.2; done; echo "never: $*"; return 1; }
has() { meshfile "${@:2}" list | grep -q "$1"; }
PRELUDE
cat "$1/inner" >>usr/local/bin/inner
cat >etc/systemd/system/inner.service <<UNIT
[Unit]
After=basic.target
Requires=basic.target
[Service]
Type=oneshot
Environment=PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
ExecStart=/bin/bash /usr/local/bin/inner
ExecStopPost=/bin/systemctl --force --force poweroff
UNIT
mount --make-rshared .
export container=meshswarm-test
exec chroot . /lib/systemd/systemd --system --unit=inner.service --log-target=journal </dev/null
BOOT
    timeout -s KILL "${boot_limit:-120}" unshare --kill-child --fork --pid --mount --uts --ipc --cgroup --net bash -c \
        'ip link set lo up && exec bash "$0/boot" "$@"' "$place" "$place" "$build" "$root" >"$place/boot.log" 2>&1 || status=$?
    if [ ! -e "$place/out/log" ]; then
        tail -n 20 "$place/boot.log"
        skip "systemd does not come up in namespaces here (status $status)"
    fi
    local result
    result=$(cat "$place/out/result" 2>/dev/null || echo "no end was seen")
    [ "$result" = passed ] && { echo "passed"; exit 0; }
    cat "$place"/out/*log 2>/dev/null
    echo "FAILED: $result"
    exit 1
}
