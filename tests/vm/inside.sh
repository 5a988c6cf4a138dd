#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs in the guest, as root. DIR is shared with the host: `command` and `cached` come from there,
# `output.log`, `booted` and, last of all, `status` go there.
set -eu
dir=$1
exec > "$dir/output.log" 2>&1

NUMAD_VM_BALANCING_AT_BOOT=$(cat /proc/sys/kernel/numa_balancing)
export NUMAD_VM_BALANCING_AT_BOOT
echo 0 > /proc/sys/kernel/numa_balancing
cut -d ' ' -f 1 /proc/uptime > "$dir/booted"

# The first cpuset, and the first cgroup that counts memory, make the kernel patch its allocators. Emulated CPUs that
# run them meanwhile can trip over the patch ("Oops: int3"), so that it happens here, before there is anything to do,
# and for good. What would be patched with every first and last such cgroup, cgroup.memory= leaves out.
echo "+cpuset +memory" > /sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/patched
echo -memory > /sys/fs/cgroup/cgroup.subtree_control

# The host's root comes over 9p without any caching, so every import asks the host for every file. A second
# export of it, mounted with a cache, halves the time that Python needs to start.
tag=$(awk '$2 == "/mnt" { print $1 }' /proc/mounts)
umount /mnt
mount -t 9p -o ro,version=9p2000.L,trans=virtio,access=any,msize=512000,cache=loose "$tag" /mnt
while read -r path; do
    mount --bind "/mnt$path" "$path"
done < "$dir/cached"

status=0
sh "$dir/command" || status=$?
echo "$status" > "$dir/status"
sync
