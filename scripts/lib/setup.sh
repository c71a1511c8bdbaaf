# Sourced by the programs in scripts/: where the source tree is, how they speak, and one set-up at a time.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
me=scripts/$(basename "$0")
dev=$root/.dev
setup_log=$dev/setup.log

say() { printf '%s\n' "$*"; }
die() {
  printf '%s: %s\n' "$me" "$*" >&2
  exit 1
}

# patiently COMMAND...: runs it into the set-up log, and says every ten seconds that it is still at work, with the log's last line.
patiently() {
  local ticker status=0 from=$SECONDS
  (
    exec 8>&- 3<> <(:)
    while ! read -rt 10 -u 3; do say "  still at work after $((SECONDS - from)) s: $(tail -n 1 "$setup_log" | tr -cd '[:print:]' | cut -c 1-100)"; done
  ) &
  ticker=$!
  "$@" >>"$setup_log" 2>&1 || status=$?
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  return $status
}

# quietly WHAT COMMAND...: runs it into the set-up log; on failure shows the log's end and one line that names WHAT.
quietly() {
  local what=$1
  shift
  if ! patiently "$@" </dev/null; then
    tail -n 15 "$setup_log" >&2
    die "$what failed: its last lines are above, all of them in $setup_log"
  fi
}

# One set-up at a time in one source tree: two npm ci at once would leave half of each.
setup_begin() {
  mkdir -p "$dev" || die "cannot make $dev: the source tree must be writable"
  exec 8>"$dev/setup.lock"
  if ! flock -n 8; then
    say "Waiting for another set-up in this source tree to end."
    flock 8
  fi
  : >"$setup_log"
}
setup_end() { exec 8>&-; }

for piece in apt node go java; do
  # shellcheck source=/dev/null
  . "$root/scripts/lib/$piece.sh"
done
