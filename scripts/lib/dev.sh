# What scripts/run makes under .dev/ (or --dir): SoftHSM2 token, CA and server certificate, configuration. Nothing of it
# leaves that directory; the token and its keys are kept from run to run, everything else is made anew when it must be.

softhsm_module() {
  local file
  for file in /usr/lib/softhsm/libsofthsm2.so /usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so; do
    [ -f "$file" ] && printf '%s\n' "$file" && return
  done
  die "finds no libsofthsm2.so where Debian and Ubuntu put it (package libsofthsm2)"
}

# Linux takes at most 107 bytes for a socket's path, and a socket is first made under a longer, temporary name beside it.
dev_path_fits() {
  local longest=$1/kubernetes.sock.new-4194304
  (LC_ALL=C && [ ${#longest} -le 107 ]) ||
    die "the path $1 is too long for a Unix socket in it (107 bytes at most): move the source tree to a shorter path, or name a directory, as in: scripts/run --dir /tmp/kms-plugin"
}

dev_token() {
  local here=$1
  mkdir -p "$here/tokens"
  cat >"$here/softhsm2.conf" <<END
directories.tokendir = $here/tokens
objectstore.backend = file
log.level = ERROR
slots.removable = false
END
  if compgen -G "$here/tokens/*/token.object" >/dev/null; then
    [ -s "$here/pin" ] || die "$here/tokens holds a token, but its PIN file $here/pin is gone: remove $here/tokens to start with a new token and new keys"
    return
  fi
  say "Making a SoftHSM2 token in $here/tokens"
  # What is remembered there is of an earlier token, and would forbid a new key under the old one's label.
  rm -rf "$here/state"
  # No line feed at its end: the file's bytes are the PIN.
  openssl rand -hex 16 | tr -d '\n' >"$here/pin"
  SOFTHSM2_CONF=$here/softhsm2.conf quietly 'making the SoftHSM2 token' \
    node "$root/scripts/lib/init-token.mjs" "$module" dev "$here/pin"
}

# A CA and one server certificate for kms-plugin.test, made anew a week before they run out.
dev_certificate() {
  local here=$1 week=604800
  if openssl x509 -in "$here/ca.pem" -noout -checkend $week && openssl x509 -in "$here/server.pem" -noout -checkend $week &&
    openssl verify -CAfile "$here/ca.pem" -verify_hostname kms-plugin.test "$here/server.pem" &&
    openssl pkey -in "$here/server.key" -noout; then return; fi >/dev/null 2>&1
  say "Making a CA and a server certificate for kms-plugin.test in $here"
  local ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
  quietly 'making the CA' openssl req -x509 "${ec[@]}" -keyout "$here/ca.key" -out "$here/ca.pem" -days 3650 \
    -subj '/CN=kms-plugin development CA' -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign'
  quietly 'making the certificate request' openssl req "${ec[@]}" -keyout "$here/server.key" -out "$here/server.csr" \
    -subj '/CN=kms-plugin.test'
  printf '%s\n' 'subjectAltName=DNS:kms-plugin.test' 'extendedKeyUsage=serverAuth' >"$here/server.ext"
  quietly 'making the server certificate' openssl x509 -req -in "$here/server.csr" -CA "$here/ca.pem" -CAkey "$here/ca.key" \
    -CAcreateserial -days 365 -extfile "$here/server.ext" -out "$here/server.pem"
  rm -f "$here/server.csr" "$here/server.ext"
}

# Written at every run, so that it always fits the source tree: to change it, copy it and use scripts/run --config.
dev_configuration() {
  local here=$1
  cat >"$here/kms-plugin.yml" <<END
# Written by scripts/run at every start: to try something else, copy it and run scripts/run --config COPY.
# Relative paths start from this file's directory.
state_dir: state
listeners:
  - name: credhub # as CredHub needs it
    endpoint: credhub.sock
    apis: [v1beta1]
    tls: { certificate: server.pem, private_key: server.key, ca: ca.pem, host: kms-plugin.test }
  - name: kubernetes # as kube-apiserver needs it
    endpoint: kubernetes.sock
    apis: [v1beta1, v2]
token:
  module: $module
  partition: { label: dev }
  pin_file: pin
  environment: { SOFTHSM2_CONF: $here/softhsm2.conf }
keys:
  - { label: dev-key, state: active }
END
}

# The key, made as an operator makes one: by keys create, once.
dev_key() {
  local here=$1
  [ ! -e "$here/tokens/key-made" ] || return 0
  # An earlier run may have ended between the two.
  if ! "$here/kms-plugin" keys list >/dev/null 2>&1; then
    say "Making the key dev-key in the token"
    quietly 'making the key' "$here/kms-plugin" keys create dev-key
  fi
  touch "$here/tokens/key-made"
}

# A command that asks this service, for people to type.
dev_command() {
  local here=$1
  {
    printf '#!/usr/bin/env bash\n# Written by scripts/run: kms-plugin with the configuration in this directory.\n'
    printf 'export KMS_PLUGIN_CONFIG=%q\nexec %q --disable-proto=throw --no-addons %q "$@"\n' "$here/kms-plugin.yml" "$node_home/bin/node" "$root/dist/kms-plugin.cjs"
  } >"$here/kms-plugin"
  chmod 755 "$here/kms-plugin"
}
