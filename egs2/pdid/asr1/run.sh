#!/usr/bin/env bash
# The recipe of the corpus pdid: ./run.sh [--stage N --stop_stage N]; ./run.sh --help
exec "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../../../run.sh" --corpus pdid "$@"
