#!/usr/bin/env bash
# Remakes requirements.txt, the lock of path.sh's environment, after a change in pyproject.toml:
#   local/lock.sh              keeps the versions that still fit
#   local/lock.sh --upgrade    takes the newest ones
root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
. "$root/path.sh" || exit 1
cd "$root" || exit 1
exec uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
    --extra espnet --extra mini --extra test \
    --custom-compile-command local/lock.sh --no-emit-index-url --no-emit-find-links \
    pyproject.toml --output-file requirements.txt "$@"
