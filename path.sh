# Enters the project's Python environment, .venv, and makes it on first use: `. ./path.sh` in bash.
# `bash path.sh` only makes it. PYTHON=python3.12 chooses the Python that it is made with.
if [ -z "${BASH_VERSION:-}" ]; then
    echo "path.sh: this shell is not bash; start bash, then: . ./path.sh" >&2
    return 1
fi
_root=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
if bash "$_root/local/make_environment.sh"; then
    export VIRTUAL_ENV="$_root/.venv"
    case $PATH in
        "$VIRTUAL_ENV/bin:"*) ;;
        *) export PATH="$VIRTUAL_ENV/bin:$PATH" ;;
    esac
    # Modules of another Python, or another checkout of ESPnet, would come before those of .venv.
    unset PYTHONHOME PYTHONPATH
    # Some images forbid byte code, which costs every program that imports ESPnet 7 s.
    unset PYTHONDONTWRITEBYTECODE
    unset _root
    hash -r
else
    unset _root
    false # the status of `. ./path.sh`
fi
