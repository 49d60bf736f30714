#!/usr/bin/env bash
# Two processes on one machine, each a half of the cells, then the merge.
#
#   two-processes.sh CELLS MODEL OUTPUT
#
# Run the same line again after whatever ended it: finished parts are kept. Ends with 75 when SIGTERM or SIGUSR1 asked it to stop,
# and with 3 when all is there but for files of a set that cannot be read.
set -uo pipefail
cells=$1 model=$2 output=$3
shards=${SHARDS:-2}
threads=${THREADS:-$(( $(nproc) / shards > 0 ? $(nproc) / shards : 1 ))}

pids=()
for ((shard = 0; shard < shards; shard++)); do
    scgpt-infer embed "$cells" --model "$model" -o "$output" --shard "$shard/$shards" --threads "$threads" --quiet &
    pids+=("$!")
done
trap 'kill -TERM "${pids[@]}" 2>/dev/null' TERM USR1 # a shell does not hand its signals on by itself

failed=0
for pid in "${pids[@]}"; do
    wait "$pid" && code=0 || code=$?
    while kill -0 "$pid" 2>/dev/null; do # a trap ended the wait, not the process
        wait "$pid" && code=0 || code=$?
    done
    ((code > failed)) && failed=$code
done
((failed == 0 || failed == 3)) || exit "$failed"

scgpt-infer merge "$output.parts" -o "$output" || exit
exit "$failed"
