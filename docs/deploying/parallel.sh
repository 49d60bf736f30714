#!/usr/bin/env bash
# Many shards, a few at a time, by GNU parallel on one machine or, with --sshlogin, on several that share a file system.
#
#   parallel.sh CELLS MODEL OUTPUT [options of parallel, such as --jobs 2 or --sshlogin host1,host2]
#
# A shard that fails is tried once more, and goes on where it stopped. What is missing in the end, the merge says.
set -euo pipefail
cells=$1 model=$2 output=$3
shift 3
shards=${SHARDS:-8}

seq 0 $((shards - 1)) | parallel --quote --jobs 2 --retries 2 --termseq TERM,300000,KILL,1000 "$@" \
    scgpt-infer embed "$cells" --model "$model" -o "$output" --shard "{}/$shards" --quiet || echo "not every shard ended with 0" >&2

scgpt-infer merge "$output.parts" -o "$output"
