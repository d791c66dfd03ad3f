#!/bin/sh
# Prints the interpreter that .venv is made from; fails if there is none of 3.11 or newer.
#
# $PYTHON wins. Then Debian's own, as its build is profile-guided and nearly twice as fast as a typical self-built
# one that stands first on PATH. Then whatever PATH has.
set -eu

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if [ -n "${PYTHON:-}" ]; then
    if new_enough "$PYTHON"; then
        echo "$PYTHON"
        exit 0
    fi
    echo "PYTHON=$PYTHON is not a Python of 3.11 or newer; name another one or leave PYTHON unset" >&2
    exit 1
fi
for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
    if new_enough "$candidate"; then
        echo "$candidate"
        exit 0
    fi
done
echo "no Python 3.11 or newer found; on Debian 12 or newer: apt-get install python3 python3-venv" >&2
exit 1
