#!/bin/bash
# Arguments: state_dir, node, the program, its configuration. Prints what doctor says while the service runs on a full disk.
# In a mount namespace of its own: the file system is gone with it.
set -u
state=$1 node=$2 program=$3 config=$4
mount -t tmpfs -o size=1m,mode=0700 kms-plugin-state "$state" || exit 1
"$node" "$program" serve --config "$config" >/dev/null 2>&1 &
service=$!
trap 'kill "$service"; wait "$service"' EXIT
for _ in $(seq 100); do
  "$node" "$program" status --config "$config" >/dev/null 2>&1 && break
  sleep 0.1
done
head -c 2M /dev/zero >"$state/filler" 2>/dev/null
"$node" "$program" doctor --json --config "$config"
exit 0
