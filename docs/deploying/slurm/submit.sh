#!/usr/bin/env bash
# Submits the array and the merge that waits for it.
#
#   submit.sh CELLS MODEL OUTPUT [options of sbatch, such as --partition=gpu --account=lab]
#
# Submit again after a failure: tasks whose shard is done end at once.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export CELLS=$1 MODEL=$2 OUTPUT=$3 # sbatch hands the environment on
shift 3

array=$(sbatch --parsable "$@" "$here/shard.sbatch")
merge=$(sbatch --parsable "$@" --dependency="afterok:$array" --kill-on-invalid-dep=yes "$here/merge.sbatch")
echo "array ${array%%;*}, merge ${merge%%;*}"
