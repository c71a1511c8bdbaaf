#!/bin/bash
# Arguments: state_dir, node, the program, its configuration, up or down. Prints what doctor says on a full disk while the
# service runs there, or does not.
# In a mount namespace of its own: the file system is gone with it.
set -u
state=$1 node=$2 program=$3 config=$4 service=$5
mount -t tmpfs -o size=1m,mode=0700 kms-plugin-state "$state" || exit 1
if [ "$service" = up ]; then
  "$node" "$program" serve --config "$config" >/dev/null 2>&1 &
  plugin=$!
  trap 'kill "$plugin"; wait "$plugin"' EXIT
  for _ in $(seq 100); do
    "$node" "$program" status --config "$config" >/dev/null 2>&1 && break
    sleep 0.1
  done
fi
head -c 2M /dev/zero >"$state/filler" 2>/dev/null
"$node" "$program" doctor --json --config "$config"
exit 0
