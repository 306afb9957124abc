#!/bin/busybox sh
# The first process of the guest: two namespaces as hosts, the daemon on both, and what must hold.
# Real tools are named by path: this shell would take its own applets first.
# Each line "RESULT name=value" is read by the test; it powers off in any case.

/bin/busybox mkdir -p /proc /sys /dev /run /tmp /var
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin:/sbin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
ln -sf /run /var/run
trap 'poweroff -f' EXIT

for module in $(cat /modules/order); do insmod "/modules/$module"; done

# The firmware leaves its escape sequences on the first line.
echo
result() { echo "RESULT $1=$2"; }

for host in a b; do
    /bin/ip netns add $host
    /bin/ip -n $host link set lo up
done
/bin/ip link add va type veth peer name vb
number=1
for host in a b; do
    /bin/ip link set v$host netns $host
    /bin/ip -n $host addr add 192.168.77.$number/24 dev v$host
    /bin/ip -n $host link set v$host up
    number=$((number + 1))
done

start() {
    /bin/ip netns exec "$1" meshctl join --secret-file /secret --state-dir "/state-$1" \
        --socket-path "/$1.sock" --hostname "host-$1" >>"/log-$1" 2>&1 &
    echo $! >"/pid-$1"
}
field() { WGMESH_SOCKET="/$1.sock" meshctl status -o json | sed -n "s/.*\"$2\": \"\(.*\)\".*/\1/p"; }
await() { # seconds, command: until it succeeds
    tries=$(($1 * 5))
    shift
    while [ $tries -gt 0 ]; do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.2
        tries=$((tries - 1))
    done
    return 1
}
answers() { WGMESH_SOCKET="/$1.sock" meshctl status; }
has_peer() { [ "$(WGMESH_SOCKET="/$1.sock" meshctl peers list -o name | wc -l)" = 1 ]; }

start a
start b
await 30 answers a
await 30 answers b
result engine "$(field a engine)"
ip=$(field b mesh_ip)
await 30 /bin/ip netns exec a ping -n -c 1 -W 1 "$ip" && result mesh yes

# What a person is shown, of the kernel's own counters.
here() { command=$1; shift; WGMESH_SOCKET=/a.sock /bin/ip netns exec a meshctl "$command" "$@"; }
is_up() { here peers -o json | tr -d '\n' | grep -q '"state": "up".*"tx_bytes": [1-9]'; }
await 10 is_up && result seen yes
here ping "$ip" -c 2 -i 0.2 | grep -q "2 sent, 2 received, 0% lost" && result asked yes
here doctor | grep -q "the kernel has WireGuard" && result doctor yes

# A ping every 50 ms while one daemon is killed, restarted, stopped and started again.
/bin/ip netns exec a ping -n -i 0.05 -c 140 -W 2 "$ip" >/ping.log &
pinging=$!
sleep 1
kill -9 "$(cat /pid-a)"
sleep 1
start a
await 10 has_peer a && result restarted yes
kill "$(cat /pid-a)"
await 5 [ ! -e /a.sock ]
sleep 0.5
start a
await 10 has_peer a && result taken_over yes
wait $pinging
result received "$(sed -n 's/.* \([0-9]*\) received.*/\1/p' /ping.log)"
result kind "$(/bin/ip -n a -d link show wg0 | grep -c wireguard)"

WGMESH_SOCKET=/a.sock meshctl leave
await 5 [ ! -e /a.sock ]
/bin/ip -n a link show wg0 >/dev/null 2>&1 && result left no || result left yes

# A new node whose first handshakes are lost: nothing of it reaches the other one but multicast.
/bin/ip -n a route add blackhole 192.168.77.2/32
start a
await 10 has_peer a
await 10 has_peer b
sleep 0.2
/bin/ip -n a route del blackhole 192.168.77.2/32
began=$(cut -d' ' -f1 /proc/uptime | tr -d .)
await 10 /bin/ip netns exec a ping -n -c 1 -W 0.1 "$ip" && result met yes
ended=$(cut -d' ' -f1 /proc/uptime | tr -d .)
result lost_handshake_cs $((ended - began))

# The secret changes under the ping, and a tunnel that is made anew is made by the new one.
rotate() { WGMESH_SOCKET="/$1.sock" meshctl rotate --secret-file /secret-new --grace 1h; }
nobody_behind() { WGMESH_SOCKET="/$1.sock" meshctl status | grep -q 'every peer has the new one'; }
meshctl init --successor-of /secret >/secret-new && chmod 600 /secret-new
/bin/ip netns exec a ping -n -i 0.05 -c 60 -W 2 "$ip" >/ping-rotate.log &
pinging=$!
rotate a
rotate b
await 10 nobody_behind a && await 10 nobody_behind b && result rotated yes
wait $pinging
result rotated_received "$(sed -n 's/.* \([0-9]*\) received.*/\1/p' /ping-rotate.log)"
WGMESH_SOCKET=/a.sock meshctl leave
await 5 [ ! -e /a.sock ]
start a
await 10 /bin/ip netns exec a ping -n -c 1 -W 1 "$ip" && result rotated_met yes
WGMESH_SOCKET=/a.sock meshctl leave
await 5 [ ! -e /a.sock ]

# The other daemon's interface does not answer to a second engine, nor to a second identity.
kill "$(cat /pid-b)"
await 5 [ ! -e /b.sock ]
/bin/ip netns exec b meshctl join --secret-file /secret --state-dir /state-b --socket-path /b.sock \
    --engine userspace 2>&1 | grep -q 'was made by the kernel engine' && result other_engine refused
/bin/ip netns exec b meshctl join --secret-file /secret --state-dir /state-new --socket-path /b.sock \
    2>&1 | grep -q 'it has another private key' && result other_key refused

cat /log-a /log-b
cat /ping.log | tail -3
