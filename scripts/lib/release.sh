# Sourced by scripts/create-release and the tests of the release: the directory that the bosh CLI reads.
# Nothing of it is in a blobstore: all comes from this commit and from registries, by package-lock.json, so that a released
# commit can be built again anywhere. The exception are HSM vendors' files, whose blobs scripts/add-hsm-client makes.

# Checks the vendors' blobs that config/blobs.yml lists.
release_blobs() {
  local name size digest file
  while read -r name size digest; do
    file=$root/blobs/$name
    [ -f "$file" ] || die "lacks blobs/$name, which no registry has: make it again with scripts/add-hsm-client"
    [ "$(stat -c %s "$file")" = "$size" ] && [ "sha256:$(sha256sum <"$file" | cut -d ' ' -f 1)" = "$digest" ] ||
      die "blobs/$name is not the file of $size bytes, $digest, that config/blobs.yml names: make it again with scripts/add-hsm-client"
  done < <(blobs_listed)
}

# config/blobs.yml as lines of name, size, digest.
blobs_listed() { awk '/^[^ #{-].*:$/ { name = substr($0, 1, length($0) - 1) } $1 == "size:" { size = $2 } $1 == "sha:" { print name, size, $2 }' "$root/config/blobs.yml"; }

# release_layout DIRECTORY: the release as the bosh CLI reads it, with bundle, addon's source and Node.js as package source.
# Content and modes depend on the commit alone, and with them every fingerprint.
release_layout() {
  local into=$1 source=$1/src/hsm-kms-plugin node=$1/src/hsm-kms-plugin-nodejs part
  mkdir -p "$into"
  for part in jobs packages config src blobs; do rm -rf "${into:?}/$part"; done
  cp -R "$root/jobs" "$root/packages" "$root/config" "$root/LICENSE" "$into/"
  # The bosh CLI takes no symbolic links here, and deletes what it does not know: never the source tree's own.
  mkdir -p "$into/blobs"
  while read -r part _; do
    mkdir -p "$into/blobs/$(dirname "$part")"
    cp -l "$root/blobs/$part" "$into/blobs/$part" 2>/dev/null || cp "$root/blobs/$part" "$into/blobs/$part"
  done < <(blobs_listed)

  mkdir -p "$source/trial" "$source/pkcs11js" "$source/node/include/node" "$node"
  : >"$into/src/make-this-release-with-scripts-create-release"
  # Another build of this source tree may be exchanging dist/ at this very moment.
  cp -R "$root/dist" "$source/dist" 2>/dev/null || { rm -rf "$source/dist" && sleep 2 && cp -R "$root/dist" "$source/dist"; }
  cp "$root/scripts/lib/init-token.mjs" "$source/trial/"
  cp "$root/LICENSE" "$source/"
  cp -R "$root"/node_modules/pkcs11js/{index.js,package.json,LICENSE,src,includes} "$source/pkcs11js/"
  cp "$root/src/token/pkcs11/operation.cpp" "$root/scripts/lib/addon.sh" "$source/pkcs11js/"
  # Of Node.js' 67 MB of headers the addon needs those of Node-API.
  cp "$node_home"/include/node/{js_native_api,js_native_api_types,node_api,node_api_types}.h "$source/node/include/node/"
  cp "$node_home/bin/node" "$node_home/LICENSE" "$node/"
  find "$into/src" -type d -exec chmod 0755 {} + -o -type f -exec chmod 0644 {} +
}

# release_softhsm2 DIRECTORY LIBRARY-OR-PACKAGE: SoftHSM2's package; without it the release has none, and no job that wants it.
release_softhsm2() {
  local into=$1/src/hsm-kms-plugin-softhsm2 from=$2 unpacked
  if [ -z "$from" ]; then
    rm -r "$1/packages/hsm-kms-plugin-softhsm2"
    sed -i '/^- hsm-kms-plugin-softhsm2$/d' "$1/jobs/kms-plugin/spec"
    return
  fi
  command -v dpkg-deb >/dev/null || die "needs dpkg-deb for $from (package dpkg)"
  mkdir -p "$into"
  unpacked=$(mktemp -d "$dev/softhsm2.XXXXXX")
  dpkg-deb -x "$from" "$unpacked" && cp "$unpacked"/usr/lib/*/softhsm/libsofthsm2.so "$unpacked/usr/share/doc/libsofthsm2/copyright" "$into/" ||
    die "finds no SoftHSM2 in $from: give the file of Debian's or Ubuntu's package libsofthsm2"
  rm -r "$unpacked"
  chmod 0644 "$into"/*
}

# SoftHSM2 as this Debian or Ubuntu has it: the file of its package, into $softhsm2.
softhsm2_package() {
  local into=$dev/libsofthsm2 version
  command -v apt-get >/dev/null 2>&1 ||
    die "has no apt-get to fetch SoftHSM2 with: give the file of Debian's or Ubuntu's package libsofthsm2, scripts/create-release --softhsm2 FILE"
  apt_lists libsofthsm2
  version=$(apt_candidate libsofthsm2)
  softhsm2=$into/libsofthsm2_${version//:/%3a}_amd64.deb
  [ ! -f "$softhsm2" ] || return 0
  mkdir -p "$into"
  (cd "$into" && quietly 'apt-get download libsofthsm2:amd64' apt-get -o APT::Sandbox::User=root download "libsofthsm2:amd64=$version")
  [ -f "$softhsm2" ] || die "got no $(basename "$softhsm2") from apt-get: scripts/create-release --softhsm2 FILE takes one"
}

# The packages that scripts/add-hsm-client made, one a line.
hsm_clients() {
  local file
  for file in "$root"/packages/*/packaging; do
    [[ $(<"$file") != '# Made by scripts/add-hsm-client'* ]] || basename "$(dirname "$file")"
  done
}

# release_same TARBALL MANIFEST: whether the tarball has the jobs and packages that a committed release has.
release_same() {
  local fingerprints='/fingerprint:/ { print $NF }'
  diff <(awk "$fingerprints" "$2" | sort) <(tar -xzOf "$1" --wildcards '*release.MF' | awk "$fingerprints" | sort) >&2
}
