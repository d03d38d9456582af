#!/bin/sh
# Fault rigs need what no Python package brings: FUSE for power cuts, ip and nft for partitions.
# Install them where that is possible; without them those tests say what is missing.
set -eu
missing=""
ldconfig -p 2>/dev/null | grep -q 'libfuse3\.so' || missing="$missing libfuse3-3"
command -v nft >/dev/null 2>&1 || missing="$missing nftables"
command -v ip >/dev/null 2>&1 || missing="$missing iproute2"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "· packages for fault rigs"
    # shellcheck disable=SC2086  a list of names
    apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "· some fault rigs will be skipped. They need root and the packages:$missing"
fi
