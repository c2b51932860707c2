#!/bin/sh
# Installs the client library and the synchroniser into a temporary prefix, moves it, and builds examples/embedded-client
# against it, once with CMake and once with pkg-config, and examples/embedded-sync. Usage: installed-package.sh BUILD_FOLDER SOURCE_FOLDER [PROGRAM]; with PROGRAM, the
# `capstan` program, the examples are run against a server too.
set -eu
build=$1
source=$2
program=${3:-}

work=$(mktemp -d)
server=
cleanup() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap cleanup EXIT

cmake --install "$build" --component development --prefix "$work/first" >/dev/null
mv "$work/first" "$work/prefix"
# Nothing may be found in the source tree: only what was installed.
cp -r "$source/examples/embedded-client" "$work/example"
cp -r "$source/examples/embedded-sync" "$work/sync-example"
cd "$work"

cmake -S example -B by-cmake -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Debug >/dev/null
cmake --build by-cmake >/dev/null

cmake -S sync-example -B sync -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Debug >/dev/null
cmake --build sync >/dev/null

PKG_CONFIG_PATH=$(dirname "$(find prefix -name capstan-client.pc)")
export PKG_CONFIG_PATH
"${CXX:-c++}" -g -o by-pkg-config example/main.cpp $(pkg-config --cflags --libs capstan-client)

for binary in by-cmake/embedded-client ./by-pkg-config; do
  if "$binary" unix:"$work/none.sock" - example/main.cpp inbox 2>errors; then
    echo "$binary found a server where there is none" >&2
    exit 1
  fi
  grep -q '^embedded-client: unreachable: ' errors
done

if [ -n "$program" ]; then
  mkdir files
  "$program" serve files --listen "unix:$work/server.sock" --state "$work/state" --ready-file ready >log 2>&1 &
  server=$!
  while [ ! -s ready ]; do
    kill -0 "$server" || { cat log >&2; exit 1; }
    sleep 0.05
  done
  by-cmake/embedded-client "unix:$work/server.sock" - example/main.cpp inbox >first
  grep -q '^stored inbox/main.cpp$' first
  ./by-pkg-config "unix:$work/server.sock" - example/main.cpp inbox >second
  grep -q '^inbox/main.cpp was there already$' second
  cmp example/main.cpp files/inbox/main.cpp

  mkdir folder home
  for way in thread loop; do
    HOME=$work/home XDG_STATE_HOME=$work/home sync/embedded-sync "unix:$work/server.sock" - folder notes $way >told
    grep -q "^the server has: written by $way.txt$" told
    cmp "folder/$way.txt" "files/notes/$way.txt"
  done
fi
echo "the installed package works"
