#!/usr/bin/env bash
# From audio to a comparison by accent: ./run.sh [--corpus NAME] [--stage N] [--stop_stage N] [--help]
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/path.sh" || exit 1
exec python -P -m espnet_saliency.recipe "$@" # -P: nothing in the caller's folder is imported
