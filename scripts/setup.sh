# Make the virtual environment .venv once and install this project into it; sourced by the other scripts.
#   setup.sh [GROUP]   also install a dependency group of pyproject.toml, such as test
# PYTHON names the interpreter to start from (default python3), VENV the folder (default .venv).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
venv=${VENV:-.venv}
python=${PYTHON:-python3}
group=${1:-}

if ! command -v "$python" >/dev/null; then
    echo "Python is missing: install Python 3.10 or newer (Debian: apt-get install python3 python3-venv)" >&2
    exit 2
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "$("$python" --version) is too old: name Python 3.10 or newer by PYTHON=..." >&2
    exit 2
}

if [ ! -x "$venv/bin/pip" ]; then
    rm -rf "$venv"
    # Debian keeps venv's pip in a package of its own
    if ! "$python" -m venv "$venv" 2>/dev/null; then
        rm -rf "$venv"
        if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
            echo "installing python3-venv" >&2
            apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
        else
            echo "python3-venv is missing: sudo apt-get install python3-venv, then run this again" >&2
            exit 2
        fi
        "$python" -m venv "$venv"
    fi
fi

# install again only when the project's requirements changed
wanted="$(cksum < pyproject.toml) $group"
if ! grep -qxF "$wanted" "$venv/.installed" 2>/dev/null; then
    echo "installing into $venv (PyTorch is large: this takes minutes the first time)" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable . ${group:+--group "$group"}
    echo "$wanted" >> "$venv/.installed"
fi
