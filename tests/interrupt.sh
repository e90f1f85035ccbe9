#!/bin/sh
# SPDX-License-Identifier: MIT
#
# interrupt.sh: scripts that count tests leave neither programs nor files behind when they are interrupted. The last line
# is 'N passed, N failed, N skipped'.
set -u
unset CDPATH
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tests/tally.sh
. tests/tally.sh
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# interrupted SHELL SIGNAL: a script with another one beside it, each of which waits for a program; the signal goes to all
# of them, as a terminal's does. What runs in the background of a script ignores SIGINT.
interrupted() {
    mkdir "$work/$2" || return 1
    # shellcheck disable=SC2016 # the other shell's
    TMPDIR=$work/$2 env --default-signal=INT timeout -k 20 -s "$2" 3 "$1" -c '
        . tests/tally.sh
        tally_begin sh -c "sleep 300 & echo \$! >\"$0\"; wait"
        tally_script "the foreground" sleep 300' "$work/process"
    left=$(ls "$work/$2")
    [ -z "$left" ] || echo "files are left: $left"
    process=$(cat "$work/process") || return 1
    tries=0
    while kill -0 "$process" 2>/dev/null; do # until it has been reaped, too
        tries=$((tries + 1))
        [ "$tries" -lt 50 ] || { kill "$process"; echo "a program is left"; return 1; }
        sleep 0.1
    done
    [ -z "$left" ]
}

if env --default-signal=INT timeout 1 true 2>/dev/null; then
    tally_check "Ctrl-C" interrupted sh INT
    tally_check "the signal of kill" interrupted bash TERM
else
    tally_skip "interrupted scripts" "no timeout, or an env that cannot reset signals"
fi
tally_end
