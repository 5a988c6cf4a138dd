#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs in a guest with systemd, as root. DIR is shared with the host: `command` comes from there,
# `output.log`, `booted` and, last of all, `status` go there.
set -u
dir=$1
exec > "$dir/output.log" 2>&1

cut -d ' ' -f 1 /proc/uptime > "$dir/booted"
echo 0 > /proc/sys/kernel/numa_balancing
status=0
sh "$dir/command" || status=$?
echo "$status" > "$dir/status"
