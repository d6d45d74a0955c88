#!/usr/bin/env bash
# Runs the tests of internal/aws over emulators that others wrote: dynalite
# and moto, installed into build/emulators, on free ports of 127.0.0.1. Both
# end with this script, however it ends. Arguments go to go test.
set -euo pipefail
cd "$(dirname "$0")/../.."

DYNALITE=4.0.0
MOTO=5.2.5
dir=$PWD/build/emulators
export CGO_CFLAGS="${CGO_CFLAGS:--O2 -D__BLST_PORTABLE__}"

set -m # a process group for each, so that what they start ends too
pids=()
stop() {
  trap - EXIT INT TERM HUP
  for pid in "${pids[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
}
trap stop EXIT
trap 'stop; exit 130' INT
trap 'stop; exit 143' TERM HUP

mkdir -p "$dir"
dynalite=$dir/dynalite-$DYNALITE
moto=$dir/moto-$MOTO
if [ ! -e "$dynalite/installed" ]; then # a folder without the mark is half an installation
  rm -rf "$dynalite"
  npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dynalite" "dynalite@$DYNALITE"
  touch "$dynalite/installed"
fi
if [ ! -e "$moto/installed" ]; then
  rm -rf "$moto"
  python3 -m venv "$moto"
  "$moto/bin/pip" install --quiet --disable-pip-version-check "moto[server]==$MOTO"
  touch "$moto/installed"
fi

# Both sockets are open at once, so the ports differ.
read -r port1 port2 < <(python3 -c 'import socket
s = [socket.socket() for _ in range(2)]
for one in s: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in s))')

node "$dynalite/node_modules/dynalite/cli.js" --host 127.0.0.1 --port "$port1" --createTableMs 0 --deleteTableMs 0 >"$dir/dynalite.log" 2>&1 &
pids+=($!)
"$moto/bin/moto_server" -H 127.0.0.1 -p "$port2" >"$dir/moto.log" 2>&1 &
pids+=($!)

ready() { # name pid url
  for _ in $(seq 300); do
    if ! kill -0 "$2" 2>/dev/null; then break; fi
    if curl --noproxy '*' --silent --fail --output /dev/null "$3"; then return; fi
    sleep 0.1
  done
  echo "$1 did not start:" >&2
  cat "$dir/$1.log" >&2
  exit 1
}
export STAKESEAL_DYNALITE=http://127.0.0.1:$port1 STAKESEAL_MOTO=http://127.0.0.1:$port2 STAKESEAL_EMULATORS=required
ready dynalite "${pids[0]}" "$STAKESEAL_DYNALITE/"
ready moto "${pids[1]}" "$STAKESEAL_MOTO/moto-api/data.json"

# Not in the foreground: bash would see a signal only when it ends.
"${GO:-go}" test -count=1 -timeout 20m "$@" ./internal/aws/... &
pids+=($!)
wait "${pids[2]}"
