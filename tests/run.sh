#!/usr/bin/env bash
# All tests, in the environment of path.sh. Arguments go to pytest: tests/run.sh -m "not slow"
# leaves out the end-to-end runs, tests/run.sh tests/saliency runs one folder.
root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
. "$root/path.sh" || exit 1
cd "$root" || exit 1
exec python -m pytest "$@"
