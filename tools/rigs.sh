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
lay_out() { # folder, packages
    where=$1
    shift
    command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || return 1
    folder=$(mktemp -d)
    chmod 755 "$folder"
    if (cd "$folder" && apt-get download -qq "$@" >/dev/null 2>&1 || { apt-get update -qq && apt-get download -qq "$@"; } >/dev/null 2>&1); then
        mkdir -p "$where"
        for package in "$folder"/*.deb; do dpkg-deb -x "$package" "$where"; done
    fi
    rm -rf "$folder"
    [ -d "$where/usr" ]
}
unpack() { # command, packages
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "$rigs/usr/bin/$1" ] || [ -x "$rigs/usr/sbin/$1" ] && return
    shift
    lay_out $rigs "$@" || skipped="$skipped $1"
}
skipped=""
unpack promtool prometheus
unpack nginx nginx nginx-common
unpack fail2ban-regex fail2ban
unpack caddy caddy
unpack pebble pebble

# mosquitto needs libraries that few machines have: they lie beside it, and a script for each program names them.
with_what_it_needs() { apt-get install --simulate --no-install-recommends "$@" 2>/dev/null | sed -n 's/^Inst \([^ ]*\).*/\1/p'; }
unpack_mosquitto() {
    command -v mosquitto_sub >/dev/null 2>&1 && { command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ]; } && return
    [ -x $rigs/usr/sbin/mosquitto ] && return
    packages=$(with_what_it_needs mosquitto mosquitto-clients)
    [ -n "$packages" ] || packages="mosquitto mosquitto-clients"
    # shellcheck disable=SC2086  a list of names
    lay_out $rigs/mosquitto $packages || { skipped="$skipped mosquitto mosquitto-clients"; return; }
    for program in $rigs/mosquitto/usr/bin/* $rigs/mosquitto/usr/sbin/*; do
        program=$(cd -P "${program%/*}" && pwd)/${program##*/}
        wrapper=$rigs/${program##*/rigs/mosquitto/}
        mkdir -p "${wrapper%/*}"
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$(echo "${program%/usr/*}"/usr/lib/*-linux-*)" "$program" >"$wrapper"
        chmod 755 "$wrapper"
    done
}
unpack_mosquitto

# MicroPython's Unix port is in few releases of Debian. It comes from trixie, with the libraries of trixie, from the mirror that this machine uses.
unpack_micropython() {
    command -v micropython >/dev/null 2>&1 || [ -x $rigs/usr/bin/micropython ] && return
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep '/debian/$' | sort -u | head -1) || mirror=""
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    folder=$(mktemp -d)
    chmod 755 "$folder"
    mkdir -p "$folder/lists/partial" "$folder/archives/partial"
    echo "deb [signed-by=$keys] $mirror trixie main" >"$folder/sources"
    from="-qq -o Dir::Etc::SourceList=$folder/sources -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists=$folder/lists -o Dir::Cache=$folder"
    # shellcheck disable=SC2086  a list of options
    if [ -n "$mirror" ] && [ -f $keys ] && apt-get $from update >/dev/null 2>&1 &&
        (cd "$folder" && for package in micropython libc6 libffi8 libmbedcrypto16 libmbedtls21 libmbedx509-7; do
            apt-get $from download $package/trixie >/dev/null 2>&1 || exit 1
        done); then
        mkdir -p $rigs/trixie $rigs/usr/bin
        for package in "$folder"/*.deb; do dpkg-deb -x "$package" $rigs/trixie; done
        loader=$(cd -P $rigs/trixie && echo "$PWD"/usr/lib/*/ld-linux*.so.*)
        printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' \
            "$loader" "${loader%/*}" "$(cd -P $rigs/trixie && pwd)/usr/bin/micropython" >$rigs/usr/bin/micropython
        chmod 755 $rigs/usr/bin/micropython
    else
        skipped="$skipped micropython"
    fi
    rm -rf "$folder"
}
unpack_micropython
[ -z "$skipped" ] || echo "· some tests will be skipped. They need Debian's packages:$skipped"
