#!/usr/bin/env bash
# mesh-rollout over a real sshd on loopback, to directories of the test's own: the key arrives as it is and nobody else sees it,
# what is there already stays, hosts that fail are named.
#
#   tests/process/rollout_test.sh BUILD-DIRECTORY        exits with 77 where it cannot run
set -euo pipefail
build=$(realpath "${1:-build}")
skip() { echo "SKIPPED: $*"; exit 77; }
for tool in /usr/sbin/sshd ssh ssh-keygen; do command -v $tool >/dev/null || skip "$tool is not installed"; done
[ "$(id -u)" = 0 ] || skip "sshd needs root to let root in"
rollout=$(realpath "$(dirname "$0")/../../scripts/mesh-rollout")
place=$(mktemp -d /var/tmp/meshswarm-rollout-XXXXXX)
sshd=
trap '[ -z "$sshd" ] || kill "$sshd"; rm -rf "$place"' EXIT
fail() { echo "FAILED: $*"; cat "$place/out" "$place/sshd.log" 2>/dev/null; exit 1; }
says() { grep -qF -- "$1" "$place/out" || fail "not said: $1"; }

cd "$place"
for name in host user; do ssh-keygen -q -t ed25519 -N '' -f $name; done
mkdir -p /run/sshd
# Another port where the first is taken.
for try in 1 2 3 4 5; do
port=$((20000 + RANDOM % 10000))
cat >sshd_config <<CONFIG
Port $port
ListenAddress 127.0.0.1
HostKey $place/host
AuthorizedKeysFile $place/user.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
AcceptEnv *
CONFIG
/usr/sbin/sshd -D -e -f sshd_config >sshd.log 2>&1 </dev/null &
sshd=$!
{ printf '[127.0.0.1]:%s ' "$port"; cat host.pub; } >known_hosts
cat >ssh <<SSH
#!/bin/sh
# What goes over the command line is seen by everybody.
for word; do printf '%s\n' "\$word"; done >>$place/words
exec ssh -F none -p $port -i $place/user -o UserKnownHostsFile=$place/known_hosts -o StrictHostKeyChecking=yes "\$@"
SSH
chmod +x ssh
for _ in $(seq 50); do ./ssh -o BatchMode=yes 127.0.0.1 true 2>/dev/null && break 2; kill -0 $sshd 2>/dev/null || break; sleep 0.1; done
[ $try -lt 5 ] || fail "sshd does not run"
done

"$build/bin/meshkey" init --dir "$place/head" --tracker head:6969 >/dev/null
secret=$(sed -n 's/^meshswarm-key-1 //p' head/mesh.key)
run() { "$rollout" --ssh "$place/ssh" --from "$place/head" --no-start "$@" >"$place/out" 2>&1; }

: >words
run --to "$place/n1" -- 127.0.0.1 || fail "the first time"
says "127.0.0.1: has the key now"
cmp head/mesh.key n1/mesh.key || fail "another key came"
[ "$(stat -c %a n1/mesh.key) $(stat -c %a n1/mesh.conf)" = "600 644" ] || fail "modes"
grep -qxF 'tracker = "head:6969"' n1/mesh.conf && grep -qxF "key = \"$place/n1/mesh.key\"" n1/mesh.conf || fail "the configuration"
! grep -qF "$secret" words out || fail "the key was in arguments, or was printed"
"$build/bin/meshkey" show n1/mesh.key >/dev/null || fail "the key is no key"
cp n1/mesh.conf before
run --to "$place/n1" 127.0.0.1 127.0.0.1 || fail "again"
says "had the key"
cmp before n1/mesh.conf || fail "the configuration was changed"
[ "$(ls -A n1)" = "$(printf 'mesh.conf\nmesh.key')" ] || fail "something was left behind"

# Another key, another tracker, open: nothing is changed.
mkdir n2 n3 n4 && "$build/bin/meshkey" new >n2/mesh.key
cp n2/mesh.key other
status=0 && run --to "$place/n2" 127.0.0.1 || status=$?
[ $status = 1 ] && cmp other n2/mesh.key && [ ! -e n2/mesh.conf ] || fail "another key was replaced"
says "another key is there"
echo 'tracker = "elsewhere:1"' >n3/mesh.conf
run --to "$place/n3" 127.0.0.1 && fail "another tracker"
says 'has tracker = elsewhere:1'
[ "$(cat n3/mesh.conf)" = 'tracker = "elsewhere:1"' ] && [ ! -e n3/mesh.key ] || fail "something was changed"
echo 'open = true' >n4/mesh.conf
run --to "$place/n4" 127.0.0.1 && fail "an open mesh"
says "says open"
[ ! -e n4/mesh.key ] || fail "something was changed"
mkdir n8 && printf 'tracker = head:6969 # as it is spelled there\nopen = false\nkey = %s/n8/mesh.key\nname = "n8"' "$place" >n8/mesh.conf
cp n8/mesh.conf before
run --to "$place/n8" 127.0.0.1 || fail "the same in another spelling"
cmp before n8/mesh.conf || fail "what was said already was said again"
mkdir n9 && printf '# end' >n9/mesh.conf
run --to "$place/n9" 127.0.0.1 || fail "a last line without an end"
[ "$(sed -n 2p n9/mesh.conf)" = 'tracker = "head:6969"' ] || fail "a line was joined to another"
run --to "$place/n10" 127.0.0.1 127.0.0.1 127.0.0.1 127.0.0.1 || fail "one machine, four times"
[ "$(wc -l <n10/mesh.conf)" = 2 ] || fail "said more than once"
printf '#!/bin/sh\ncat >/dev/null; printf "all is well \\033[1A\\r\\n"\n' >liar && chmod +x liar
"$rollout" --ssh "$place/liar" --from "$place/head" 127.0.0.1 >out 2>&1 && fail "a host that does something else"
says "did not do it: all is well [1A"
ln -s "$place/nowhere" n1/link && rm n1/mesh.key && ln -s "$place/elsewhere" n1/mesh.key
run --to "$place/n1" 127.0.0.1 && fail "a link was followed"
[ ! -e elsewhere ] || fail "a link was written through"

# One of several that is not there; what is no host; a host key that is another one.
status=0 && run --to "$place/n5" 127.0.0.1 nobody.invalid || status=$?
[ $status = 1 ] && cmp head/mesh.key n5/mesh.key || fail "one of two hosts"
says "nobody.invalid: "
for host in -oProxyCommand=false 'a b' '$(touch x)' ''; do
    status=0 && run --to "$place/n6" -- "$host" || status=$?
    [ $status = 2 ] || fail "'$host' was taken for a host"
done
status=0 && run --to "/tmp/\$(touch $place/x)" 127.0.0.1 || status=$?
[ $status = 2 ] || fail "a directory of a strange name"
ssh-keygen -q -t ed25519 -N '' -f another
{ printf '[127.0.0.1]:%s ' "$port"; cat another.pub; } >known_hosts
run --to "$place/n7" 127.0.0.1 && fail "another host key was believed"
[ ! -e n7 ] && [ ! -e x ] || fail "something was written"
echo passed
