#!/usr/bin/env bash
# Many shards, a few at a time, by GNU parallel on one machine or, with --sshlogin, on several that share a file system.
#
#   parallel.sh CELLS MODEL OUTPUT [options of parallel, such as --jobs 2 or --sshlogin host1,host2]
#
# A shard that fails is tried twice more; each try goes on where the last one stopped.
set -euo pipefail
cells=$1 model=$2 output=$3
shift 3
shards=${SHARDS:-8}

seq 0 $((shards - 1)) | parallel --quote --jobs 2 --retries 3 --halt soon,fail=1 --termseq TERM,300000,KILL,1000 "$@" \
    scgpt-infer embed "$cells" --model "$model" -o "$output" --shard "{}/$shards" --quiet

scgpt-infer merge "$output.parts" -o "$output"
