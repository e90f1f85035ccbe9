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

# interrupted SHELL SIGNAL COMMAND OPTION...: a script with another one beside it, each of which waits for a program, the
# script by a command of tally.sh; the signal goes to all of them, as a terminal's does, or to the script alone (option
# --foreground). What runs in the background of a script ignores SIGINT.
interrupted() {
    shell=$1 signal=$2 command=$3
    shift 3
    rm -rf "$work/files" "$work/processes"
    mkdir "$work/files" || return 1
    # shellcheck disable=SC2016 # the other shells'
    TMPDIR=$work/files env --default-signal=INT timeout "$@" -k 5 -s "$signal" 3 "$shell" -c '
        . tests/tally.sh
        command=$1
        set -- sh -c "sleep 300 & echo \$! >>\"$0\"; wait"
        tally_begin "$@"
        $command "$@"' "$work/processes" "$command"
    left=$(ls "$work/files")
    [ -z "$left" ] || echo "files are left: $left"
    [ "$(wc -l <"$work/processes")" = 2 ] || { echo "not both programs were begun"; return 1; }
    while read -r process; do
        tries=0
        while kill -0 "$process" 2>/dev/null; do # until it has been reaped, too
            tries=$((tries + 1))
            [ "$tries" -lt 50 ] || { kill "$process"; echo "a program is left"; left=$process; break; }
            sleep 0.1
        done
    done <"$work/processes"
    [ -z "$left" ]
}

if env --default-signal=INT timeout 1 true 2>/dev/null; then
    tally_check "Ctrl-C" interrupted sh INT "tally_script foreground"
    tally_check "kill, a check" interrupted sh TERM "tally_check foreground" --foreground
    tally_check "kill, a script" interrupted bash TERM "tally_script foreground" --foreground
    tally_check "kill, tests" interrupted bash INT "tally_ctest foreground ." --foreground
else
    tally_skip "interrupted scripts" "no timeout, or an env that cannot reset signals"
fi
tally_end
