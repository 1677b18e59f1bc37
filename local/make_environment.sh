#!/usr/bin/env bash
# Makes .venv where it is absent, unfinished, out of date or moved; path.sh calls it at every start.
# uv does the installing, since pip refuses ESPnet. Status 0: .venv is ready.
set -uo pipefail
uv_version=0.13.9

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
venv=$root/.venv
stamp=$venv/installed # written last: the folder that .venv was made for, and what it was made of
log=$root/.venv.log
say() { echo "path.sh: $*" >&2; }

digest() {
    cd "$root" &&
        sha256sum requirements.txt requirements-build.txt pyproject.toml local/make_environment.sh
}
wanted=$root$'\n'$(digest) || { say "$root is not a whole checkout; clone it again"; exit 1; }
ready() { [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; }
ready && exit 0

# Prints the first Python that will do.
find_python() {
    local candidate suits
    suits='import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))'
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3; do
        # A name that is found may still fail when run: pyenv's shims of versions not switched on.
        "$candidate" -I -c "$suits" >/dev/null 2>&1 && { echo "$candidate"; return; }
        [ "$candidate" = "${PYTHON:-}" ] && say "PYTHON=$PYTHON is no Python 3.11 or 3.12 with venv"
    done
    say "no Python 3.11 or 3.12 with venv found; install one (Debian: apt install python3.11" \
        "python3.11-venv python3.11-dev) or name it: PYTHON=/path/to/python3.11"
    return 1
}

# The index that pip and uv ask where they are told of none.
main_index() { "$venv/bin/python" -I -c 'from pip._internal.models.index import PyPI; print(PyPI.simple_url)'; }

# uv reads neither pip.conf nor PIP_*: hands it the source of packages that pip was told of.
tell_uv_what_pip_knows() {
    local settings option value
    settings=$("$venv/bin/python" -I -m pip config list) || return
    pip_knows() { # OPTION: sets value; pip's own order: environment, [install], [global]
        local section
        for section in :env: install global; do
            value=$(sed -n "s/^$section\.$1='\(.*\)'\$/\1/p" <<<"$settings" | sed 's/\\n/ /g')
            [ -n "$value" ] && return
        done
        return 1
    }
    [ -z "${UV_DEFAULT_INDEX-}${UV_INDEX_URL-}" ] && pip_knows index-url &&
        export UV_DEFAULT_INDEX="$value"
    if [ -z "${UV_INDEX-}${UV_EXTRA_INDEX_URL-}" ] && pip_knows extra-index-url; then
        # A version that one index lacks may come from another, as with pip. But where several have it
        # uv looks at the first alone, however poor its wheel: so the main one is named first.
        export UV_INDEX="${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-$(main_index)}} $value"
        export UV_INDEX_STRATEGY="${UV_INDEX_STRATEGY:-unsafe-best-match}"
    fi
    [ -z "${UV_FIND_LINKS-}" ] && pip_knows find-links && export UV_FIND_LINKS="${value// /,}"
    [ -z "${UV_INSECURE_HOST-}" ] && pip_knows trusted-host && export UV_INSECURE_HOST="$value"
    [ -z "${SSL_CERT_FILE-}" ] && pip_knows cert && export SSL_CERT_FILE="$value"
    if pip_knows no-index && [[ $value =~ ^(1|[Tt]rue|yes|on)$ ]]; then no_index=--no-index; fi
    return 0
}

install() {
    local uv=("$venv/bin/uv" --no-progress pip) here=(--python "$venv/bin/python") no_index=
    rm -f -- "$stamp"
    if [ -n "$python" ]; then
        rm -rf -- "$venv" && "$python" -I -m venv "$venv" &&
            "$venv/bin/python" -I -m pip install --progress-bar off "uv==$uv_version" || return
    fi
    tell_uv_what_pip_knows || return
    "${uv[@]}" install "${here[@]}" $no_index --no-deps --build-constraints requirements-build.txt \
        --build-constraints requirements.txt -r requirements.txt &&
        "${uv[@]}" install "${here[@]}" $no_index --no-deps --no-build-isolation -e . &&
        "${uv[@]}" check "${here[@]}" &&
        printf '%s\n' "$wanted" >"$stamp.part" && mv -- "$stamp.part" "$stamp"
}

[ -w "$root" ] || { say "$root cannot be written to; clone it where you may write"; exit 1; }
command -v flock >/dev/null || { say "flock is missing; install util-linux"; exit 1; }
exec 9>"$root/.venv.lock"
if ! flock -n 9; then
    say "another start is making .venv; waiting for it"
    flock 9
    ready && exit 0
fi

# Whatever else is active must not send the installation elsewhere or change it.
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV UV_SYSTEM_PYTHON \
    UV_WORKING_DIR UV_NO_EDITABLE
export PIP_USER=0 UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-300}"
cd "$root" || exit 1

python= # stays empty where a finished .venv only has to follow a change of its requirements
made_for=$(head -n 1 "$stamp" 2>/dev/null)
if [ "$made_for" = "$root" ] && [ -x "$venv/bin/python" ] && [ -x "$venv/bin/uv" ]; then
    why="the requirements have changed"
else
    python=$(find_python) || exit 1
    if [ ! -e "$venv" ]; then
        why="first use, with $("$python" -V)"
    elif [ -z "$made_for" ]; then
        why="afresh, as the last installation did not finish"
    elif [ "$made_for" != "$root" ]; then
        why="afresh, as this folder was moved or copied"
    else
        why="afresh, as its Python has gone"
    fi
fi
trap 'echo >&2; say "interrupted; the next start makes .venv again"; exit 130' INT TERM
printf 'path.sh: making .venv (%s); log: %s ... ' "$why" "$log" >&2
SECONDS=0
if install >"$log" 2>&1; then
    echo "done in $SECONDS s" >&2
else
    echo "failed after $SECONDS s" >&2
    tail -n 12 "$log" >&2
    say ".venv could not be made; above are the last lines of $log. Needed: a network or a mirror" \
        "(UV_DEFAULT_INDEX, PIP_INDEX_URL), 6 GB of disk, a C++ compiler, Python's headers" \
        "(python3-dev). Mend that and start again."
    exit 1
fi
