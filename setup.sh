#!/bin/sh
# Makes .venv and installs the workbench into it, with everything for its tests and notebooks. `make` runs this if needed.
#
#   PYTHON=python3.12 make setup      use this Python instead of the first one that is new enough
#
# pip's own settings decide the index, mirror and proxy of the packages (PIP_* variables, pip.conf).
# A torch in .venv that is new enough is kept, so a CPU build can be installed there first.
set -eu
cd "$(dirname "$0")"

log() { printf 'setup: %s\n' "$*" >&2; }
fail() { log "$*"; exit 1; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if new_enough "$candidate"; then echo "$candidate"; return; fi
    done
    fail "no Python 3.11 or newer among: ${PYTHON:-python3, python3.13, python3.12, python3.11, python}." \
        "Install one, or name it: PYTHON=/path/to/python make setup"
}

suitable_torch() {  # prints the version of the torch in .venv if it reaches the floor in pyproject.toml
    .venv/bin/python - <<'EOF'
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version

with open("pyproject.toml", "rb") as file:
    needs = tomllib.load(file)["project"]["dependencies"]
floor = next(need for need in needs if need.startswith("torch>="))
try:
    found = version("torch")
except PackageNotFoundError:
    sys.exit(1)
have, least = ([int(part) for part in re.findall(r"\d+", text)[:2]] for text in (found, floor))
if have < least:
    sys.exit(1)
print(found)
EOF
}

if ! new_enough .venv/bin/python; then
    python=$(find_python)
    log "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv >&2 || fail "this Python cannot make a virtual environment." \
        "On Debian and Ubuntu: apt install python3-venv; elsewhere install Python from python.org."
fi
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    .venv/bin/python -m ensurepip >/dev/null 2>&1 || fail ".venv has no pip, and this Python cannot give it one." \
        "On Debian and Ubuntu: apt install python3-venv; then run this again."
fi

constraints=constraints.txt
if torch=$(suitable_torch); then
    constraints=.venv/constraints.txt
    grep -v '^torch==' constraints.txt > "$constraints"
    log "keeping torch $torch; the other packages take about 2 GB in .venv"
else
    log "installing torch and about 200 packages into .venv: 3 GB with a CPU build of torch, several GB more with CUDA." \
        "pip's settings decide the index, and with it the build"
fi
log "this takes some minutes, most of them for downloads; later calls skip it"
.venv/bin/python -m pip install --disable-pip-version-check --constraint "$constraints" --editable '.[dev,notebooks,docs]' ||
    fail "pip could not install everything, see its last lines above. Installed packages are kept, so run this again."
touch .venv/.installed
log "done"
