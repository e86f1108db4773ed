#!/usr/bin/env bash
# Runs a command with a Docker engine at hand: engine.sh COMMAND...
# An engine that answers already is used and left alone. Otherwise docker.io is installed if it is missing, dockerd is
# started for the time of the command, and ended after it. Needs root in that case.
set -euo pipefail
command=("$@")
[ ${#command[@]} -gt 0 ] || { echo "usage: engine.sh COMMAND..." >&2; exit 2; }

answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

if answers; then
    exec "${command[@]}"
fi
if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
    echo "engine: installing docker.io" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io iptables >/dev/null
    # The package may have started it.
    for _ in $(seq 10); do
        if answers; then exec "${command[@]}"; fi
        sleep 1
    done
fi

log=$(mktemp)
dockerd >"$log" 2>&1 &
engine=$!
stop() {
    kill "$engine" 2>/dev/null || true # dockerd ends its containerd itself
    wait "$engine" 2>/dev/null || true
    rm -f "$log"
}
trap stop EXIT
for _ in $(seq 60); do
    if answers; then
        echo "engine: started $(docker version --format '{{.Server.Version}}')" >&2
        "${command[@]}"
        exit
    fi
    kill -0 "$engine" 2>/dev/null || break
    sleep 1
done
echo "FAILED: no Docker engine answers, and dockerd could not be started. The end of what it says:" >&2
tail -n 30 "$log" >&2
exit 1
