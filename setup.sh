#!/bin/sh
# Makes .venv and installs the workbench into it with all that its tests and notebooks need. `make` runs this when needed.
#
#   PYTHON=python3.12 make setup      another Python than the first one found that is new enough
#
# Which index, mirror or proxy packages come from is up to pip's own settings (PIP_* variables, pip.conf).
# A torch that is in .venv already and new enough stays; so a CPU build can be put there first.
set -eu
cd "$(dirname "$0")"

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

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
    say "making .venv with $("$python" --version)"
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
    say "keeping torch $torch"
else
    say "installing; torch is the largest part and takes some minutes"
fi
.venv/bin/python -m pip install --disable-pip-version-check --constraint "$constraints" --editable '.[dev,notebooks]' ||
    fail "pip could not install everything; its last lines above say why. What is there stays, so run this again."
touch .venv/.installed
say "done"
