#!/usr/bin/env bash
# Two hosts, as network namespaces joined by a cable, and torchrun across them: the curve is that of one process, and
# when the cable is pulled both ends say so within the stated time. Needs root and iproute2.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ "$(id -u)" -ne 0 ]; then
    echo "skipped: needs root"
    exit 0
fi
if ! command -v ip >/dev/null; then
    apt-get update && apt-get install -y iproute2
fi

here="flowscope-$$"
work="$(mktemp -d)"
clean() {
    for host in a b; do
        ip netns pids "$here-$host" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
        ip netns del "$here-$host" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap clean EXIT

ip netns add "$here-a" 2>/dev/null || { echo "skipped: network namespaces cannot be made here"; exit 0; }
ip netns add "$here-b"
ip link add eth0 netns "$here-a" type veth peer name eth0 netns "$here-b"
for host in a:10.77.0.1 b:10.77.0.2; do
    ip -n "$here-${host%%:*}" address add "${host##*:}/24" dev eth0
    ip -n "$here-${host%%:*}" link set eth0 up
    ip -n "$here-${host%%:*}" link set lo up
done

.venv/bin/python tests/cluster/two_hosts.py "$here-a" "$here-b" "$work"
