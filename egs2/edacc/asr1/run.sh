#!/usr/bin/env bash
# The recipe of the corpus edacc: ./run.sh [--stage N --stop_stage N]; ./run.sh --help
exec "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../../../run.sh" --corpus edacc "$@"
