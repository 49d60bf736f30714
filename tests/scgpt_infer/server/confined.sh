#!/bin/bash
# Runs a command as a container would: a root that cannot be written, a user id that nobody has, no rights, nothing in
# the environment but what is told, and of its own a /tmp and a /cache, as tmpfs in a folder.
#   unshare --mount confined.sh FOLDER "NAME=VALUE ..." READABLE... -- COMMAND...
set -euo pipefail
folder=$1 told=$2
shift 2
mount --make-rprivate /
mkdir -p "$folder"/{tmp,cache}
hold=/media # only here: what is mounted is seen by nobody else
mount -t tmpfs -o mode=755 tmpfs "$hold"

# What everybody can read in an image may lie in somebody's home here: those homes are shown with that alone in them.
number=0
declare -a kept homes
while [[ $1 != -- ]]; do
    home="" place=$1
    while [[ $place != / ]]; do
        [[ -n $(find "$place" -maxdepth 0 -perm -001) ]] || home=$place # the highest that is closed
        place=$(dirname "$place")
    done
    if [[ -n $home ]]; then
        mkdir "$hold/$number"
        mount --rbind "$1" "$hold/$number"
        kept[number]=$1 homes[number]=$home
    fi
    number=$((number + 1))
    shift
done
shift
for home in $(printf '%s\n' "${homes[@]}" | sort -u); do mount -t tmpfs -o mode=755 tmpfs "$home"; done
for number in "${!kept[@]}"; do
    mkdir -p "${kept[number]}"
    mount --rbind "$hold/$number" "${kept[number]}"
done

# Deepest last: what lies under a mount that cannot be written is sealed by its own.
findmnt --raw --noheadings --output TARGET | grep -vE '^/(proc|sys|dev)(/|$)' | while read -r place; do
    mount -o remount,bind,ro "$place" 2> /dev/null || true
done
mount -t tmpfs -o mode=1777 tmpfs "$folder/tmp"
mount -t tmpfs -o mode=1777 tmpfs "$folder/cache"
cd /
exec env -i PATH="$PATH" $told setpriv --reuid 54321 --regid 54321 --clear-groups --no-new-privs --bounding-set=-all \
    --inh-caps=-all -- "$@"
