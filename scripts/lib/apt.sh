# Packages of Debian or Ubuntu: installed only when missing, said beforehand, with sudo only where it must be.

# need WORD...: PACKAGE, or COMMAND=PACKAGE where a command from anywhere on the PATH will do.
need() {
  local word missing=()
  for word in "$@"; do
    case $word in
      *=*) command -v "${word%%=*}" >/dev/null 2>&1 || missing+=("${word#*=}") ;;
      *) package_there "$word" || missing+=("$word") ;;
    esac
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  apt_install "${missing[@]}"
}

# Installed under this name, or provided by one that is: Debian 13 has renamed many libraries (…t64).
package_there() {
  dpkg-query -W -f='${db:Status-Status} ${Package}, ${Provides}\n' 2>/dev/null |
    awk -v wanted="$1" '$1 == "installed" { gsub(/\([^)]*\)|,/, " "); for (i = 2; i <= NF; i++) if ($i == wanted) found = 1 } END { exit !found }'
}

# The version that apt would install; empty when it knows none. Needs package lists: apt_lists first.
apt_candidate() { LC_ALL=C apt-cache policy "$1" | sed -n 's/^  Candidate: \([^(].*\)$/\1/p'; }

apt_install() {
  command -v apt-get >/dev/null 2>&1 ||
    die "needs $* and knows only apt (Debian, Ubuntu) to install with: install them by hand, then run it again"
  say "Installing with apt-get: $*"
  apt_lists "$@"
  # How many packages that makes, and how large they are.
  LC_ALL=C apt-get install --assume-no --no-install-recommends "$@" 2>/dev/null | sed -nE 's/^.* ([0-9]+) newly installed,.*/  \1 packages/p; s/^(Need to get|After this operation,) .*/  &/p' || true
  without_services "$@"
  # Lists that are weeks old name files that are gone.
  if apt_get install "$@" || { apt_get update && apt_get install "$@"; }; then services_may_start && return; fi
  tail -n 15 "$setup_log" >&2
  die "apt-get could not install $*: its last lines are above, all of them in $setup_log"
}

# Packages whose service would start at once and at every boot, where the tests need the program alone.
services='prometheus=prometheus opencryptoki=pkcsslotd tpm2-abrmd=tpm2-abrmd'
policy=/usr/sbin/policy-rc.d

# Masks the services of these packages (as systemctl mask does, which wants a systemd that runs), and lets nothing start
# during the installation where there is another init or none.
without_services() {
  local each quiet=()
  for each in $services; do
    case " $* " in *" ${each%%=*} "*) quiet+=("${each#*=}.service") ;; esac
  done
  [ ${#quiet[@]} -gt 0 ] || return 0
  say "Masking ${quiet[*]}: the tests start what they need themselves (systemctl unmask undoes it)"
  as_root sh -c 'mkdir -p /etc/systemd/system && for unit; do
    [ -e "/etc/systemd/system/$unit" ] || ln -s /dev/null "/etc/systemd/system/$unit"
  done' sh "${quiet[@]}"
  [ ! -e $policy ] || return 0
  trap services_may_start EXIT
  as_root sh -c 'printf "#!/bin/sh\n# made by scripts/test of hsm-kms-plugin\nexit 101\n" >"$0" && chmod 755 "$0"' $policy
}

services_may_start() {
  grep -qs 'made by scripts/test of hsm-kms-plugin' $policy || return 0
  trap - EXIT
  as_root rm -f $policy
}

# Package lists are fetched only when apt does not know one of the packages (a fresh machine has no lists at all).
apt_lists() {
  local package
  for package in "$@"; do
    [ -z "$(apt_candidate "$package")" ] || continue
    apt_get update || true
    return
  done
}

apt_get() {
  local options=(-y -q)
  [ "$1" != install ] || options+=(--no-install-recommends)
  if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null 2>&1; then
    die "must be root to install packages and finds no sudo: as root, run 'apt-get update && apt-get install -y ${*:2}', then run this again"
  fi
  patiently as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get "${options[@]}" -o DPkg::Lock::Timeout=300 "$@"
}

# as_root COMMAND...: by sudo where the user is not root. Without a terminal sudo could ask its password of nobody.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; elif [ -t 0 ]; then sudo "$@"; else sudo -n "$@"; fi
}
