#!/bin/sh
# Install a lock file and Entobot itself into .venv. uv is fast; pip knows mirrors that only pip was told of.
# uv compiles when asked to: once here, and not at every start where PYTHONDONTWRITEBYTECODE is set.
set -eu
lock=$1
bin=.venv/bin
$bin/uv pip install --quiet --compile-bytecode --python $bin/python --require-hashes -r "$lock" ||
    $bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
$bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
