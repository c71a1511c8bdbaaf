# Sourced by scripts/create-image: the directories that become the layers of the image.
# Every layer depends on the files that go into it alone: no times, no owners, a fixed order.

# The user that the image runs as; files on the host that only the plugin may read belong to it.
image_user=20358

# image_system DIR: Node.js, util-linux's three programs, their libraries, and the few files that the C library looks for.
image_system() {
  local into=$1 program lib=/usr/lib/x86_64-linux-gnu
  mkdir -p "$into"/{etc,tmp,usr/bin,usr/lib,usr/lib64,run,var/lib}
  chmod 1777 "$into/tmp"
  ln -s usr/bin "$into/bin"
  ln -s usr/lib "$into/lib"
  ln -s usr/lib64 "$into/lib64"
  printf 'root:x:0:0:root:/:/sbin/nologin\nkms-plugin:x:%s:%s::/:/sbin/nologin\n' $image_user $image_user >"$into/etc/passwd"
  printf 'root:x:0:\nkms-plugin:x:%s:\n' $image_user >"$into/etc/group"
  # A vendor's client that looks for its HSM by name.
  printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$into/etc/nsswitch.conf"
  # With the packages' own records, scanners see what there is.
  cp -L /etc/os-release "$into/etc/os-release"
  for program in flock prlimit; do image_add "$into" "$(command -v "$program")"; done
  image_libraries "$into" "$node_home/bin/node"
  image_libraries "$into" "$root/node_modules/pkcs11js/build/Release/pkcs11.node"
  # Vendors' modules are linked with more of the C library's parts than Node is.
  for program in libdl.so.2 libpthread.so.0 librt.so.1 libresolv.so.2 libutil.so.1; do image_add "$into" "$lib/$program"; done
  install -D -m 0755 "$node_home/bin/node" "$into/usr/bin/node"
  install -D -m 0644 "$node_home/LICENSE" "$into/usr/share/doc/nodejs/copyright"
}

# image_plugin DIR: the bundle, the addon beside it, and the command.
image_plugin() {
  local into=$1 home=$1/usr/lib/kms-plugin addon=$1/usr/lib/kms-plugin/node_modules/pkcs11js
  mkdir -p "$addon/build/Release" "$into/usr/bin"
  cp -R "$root/dist" "$root/LICENSE" "$home/"
  cp "$root"/node_modules/pkcs11js/{index.js,package.json,LICENSE} "$addon/"
  cp "$root/node_modules/pkcs11js/build/Release/pkcs11.node" "$addon/build/Release/"
  # There is no shell: the kernel starts Node. A small young generation keeps the peak memory of a gRPC server low.
  printf '%s\n' '#!/usr/bin/node --max-semi-space-size=8' "require('/usr/lib/kms-plugin/dist/kms-plugin.cjs');" >"$into/usr/bin/kms-plugin"
  find "$into" -type d -exec chmod 0755 {} + -o -type f -exec chmod 0644 {} +
  chmod 0755 "$into/usr/bin/kms-plugin"
}

# image_add DIR PATH [BELOW]: PATH of this machine at its own path in DIR, with what it is linked with, unless the layer in BELOW has it.
image_add() {
  local into=$1 path=$2 below=${3:-} place
  if [ -d "$path" ]; then
    place=$(image_place "$path")
    mkdir -p "$into$place"
    cp -R --no-dereference --preserve=mode "$path/." "$into$place/"
    return
  fi
  image_file "$into" "$path" "$below"
  image_libraries "$into" "$path" "$below"
}

# The path under which a file is reached, with /bin, /lib and /lib64 written as the links into /usr that they are.
image_place() {
  case $1 in
    /bin/* | /sbin/* | /lib/* | /lib64/*) printf '/usr%s\n' "$1" ;;
    *) printf '%s\n' "$1" ;;
  esac
}

image_file() {
  local into=$1 path=$2 below=${3:-} place mode=0644
  place=$(image_place "$path")
  if [ -e "$into$place" ] || { [ -n "$below" ] && [ -e "$below$place" ]; }; then return; fi
  [ ! -x "$path" ] || mode=0755
  install -D -m $mode "$path" "$into$place"
  image_package "$into" "$path"
}

# A file that is no program and no library is linked with nothing.
image_libraries() {
  local into=$1 path=$2 below=${3:-} library
  while read -r library; do image_file "$into" "$library" "$below"; done < <(
    LC_ALL=C ldd "$path" 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }'
  )
  ! LC_ALL=C ldd "$path" 2>/dev/null | grep -q 'not found' ||
    die "cannot add $path: it is linked with $(LC_ALL=C ldd "$path" | awk '/not found/ { print $1 }' | paste -sd, -), which this machine lacks"
}

# The record and the licence of the package that a file comes from, where it comes from one.
image_package() {
  local into=$1 path=$2 package file
  # dpkg knows some files under /lib, some under /usr/lib, whatever the links say.
  for file in "$path" "$(realpath "$path")" "${path#/usr}"; do
    # "diversion by base-files from: FILE" may stand before "package[:architecture][, package ...]: FILE".
    package=$(dpkg-query -S "$file" 2>/dev/null | sed -n '/^diversion by /!{s/[:,].*//p;q}') && [ -n "$package" ] || continue
    [ ! -e "$into/var/lib/dpkg/status.d/$package" ] || return 0
    mkdir -p "$into/var/lib/dpkg/status.d"
    dpkg-query -s "$package" | grep -E '^(Package|Status|Architecture|Multi-Arch|Source|Version|Maintainer|Description):' >"$into/var/lib/dpkg/status.d/$package"
    [ ! -f "/usr/share/doc/$package/copyright" ] || install -D -m 0644 "/usr/share/doc/$package/copyright" "$into/usr/share/doc/$package/copyright"
    return 0
  done
}

image_layer() { image_tar "$1" "$2"; }

# image_tar DIR FILE
image_tar() {
  tar --create --file "$2" --directory "$1" --format=gnu --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --transform='s,^\./,,' .
}
