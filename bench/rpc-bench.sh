#!/bin/sh
# Runs rpc-bench and iperf3 in turn, so that both meet the machine in the same state.
#   bench/rpc-bench.sh BUILD-FOLDER [ROUNDS]
set -eu
program=${1:?usage: rpc-bench.sh BUILD-FOLDER [ROUNDS]}/bench/rpc-bench
rounds=${2:-3}
i=0
while [ "$i" -lt "$rounds" ]; do
  i=$((i + 1))
  echo "--- round $i of $rounds"
  iperf3 -s -1 >/dev/null &
  sleep 0.3
  iperf3 -c 127.0.0.1 -t 2 -f G | awk '/receiver/ { printf "iperf3, one stream: %.2f GB/s\n", $7 * 1.073741824 }'
  wait
  "$program" --seconds 1
  echo "    with each chunk out of the page cache:"
  "$program" --seconds 0.1 --fill | grep stream
  echo "    with Cap'n Proto's own network:"
  "$program" --seconds 1 --library
done
