#!/bin/sh
# Fault rigs need what no Python package brings: FUSE for power cuts, ip and nft for partitions.
# Install them where that is possible; without them those tests say what is missing.
set -eu
missing=""
ldconfig -p 2>/dev/null | grep -q 'libfuse3\.so' || missing="$missing libfuse3-3"
command -v nft >/dev/null 2>&1 || missing="$missing nftables"
command -v ip >/dev/null 2>&1 || missing="$missing iproute2"
if [ -z "$missing" ]; then
    :
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "· packages for fault rigs"
    # shellcheck disable=SC2086  a list of names
    apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "· some fault rigs will be skipped. They need root and the packages:$missing"
fi

# Tests of deploy/ and of certificates use the real servers and tools. Unpacked into .venv/rigs instead of installed, they start no service,
# take no port and need no root.
rigs=.venv/rigs
unpack() { # command, packages
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "$rigs/usr/bin/$1" ] || [ -x "$rigs/usr/sbin/$1" ] && return
    shift
    command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || { skipped="$skipped $1"; return; }
    folder=$(mktemp -d)
    chmod 755 "$folder"
    if (cd "$folder" && apt-get download -qq "$@" >/dev/null 2>&1 || { apt-get update -qq && apt-get download -qq "$@"; } >/dev/null 2>&1); then
        mkdir -p $rigs
        for package in "$folder"/*.deb; do dpkg-deb -x "$package" $rigs; done
    else
        skipped="$skipped $1"
    fi
    rm -rf "$folder"
}
skipped=""
unpack promtool prometheus
unpack nginx nginx nginx-common
unpack fail2ban-regex fail2ban
unpack caddy caddy
unpack pebble pebble
[ -z "$skipped" ] || echo "· some tests will be skipped. They need Debian's packages:$skipped"
