#!/usr/bin/env bash
# Compiles pkcs11js together with src/token/pkcs11/operation.cpp into pkcs11.node, as its binding.gyp would have it, against
# the headers of the Node.js that will run it. Used by the scripts here and by the BOSH package, so it needs nothing but g++.
#   addon.sh PKCS11JS OPERATION.CPP NODE OUTPUT [G++ OPTION]...
set -euo pipefail
pkcs11js=$1 operation=$2 node=$3 output=$4
shift 4
# One unit: operation.cpp includes pkcs11js's main.cpp, which includes the rest. Options given come last, and win.
g++ -std=c++17 -O2 -fPIC -shared -pthread -fvisibility=hidden \
  -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -Wl,-z,relro,-z,now -Wl,-z,noexecstack \
  -DNAPI_DISABLE_CPP_EXCEPTIONS -I"$node/include/node" -I"$pkcs11js/includes" -I"$pkcs11js/src" \
  "$@" "$pkcs11js/src/common.cpp" "$operation" -o "$output.new"
mv "$output.new" "$output"
