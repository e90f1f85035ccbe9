# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# Counting tests across programs, scripts and builds. Sourced; sets tally_passed, tally_failed and tally_skipped, and
# traps for SIGINT and SIGTERM, which end the script with what it has begun and remove its files. Shells put traps off
# until a command has ended, but not while they wait for one in the background: all that takes long is there.
tally_passed=0 tally_failed=0 tally_skipped=0
tally_process='' tally_begun='' tally_log=''

# tally_wait COMMAND...: its status is the command's.
tally_wait() {
    "$@" &
    wait "$!"
}

# tally_add PASSED FAILED SKIPPED
tally_add() {
    tally_passed=$((tally_passed + $1)) tally_failed=$((tally_failed + $2)) tally_skipped=$((tally_skipped + $3))
}

# tally_check NAME COMMAND...: one test, which passes when the command does; its output is shown when it fails.
tally_check() {
    tally_name=$1
    shift
    tally_log=$(mktemp)
    if tally_wait "$@" >"$tally_log" 2>&1 </dev/null; then
        echo "ok      $tally_name"
        tally_add 1 0 0
    else
        echo "FAILED  $tally_name"
        tail -n 40 "$tally_log" | sed 's/^/        /'
        tally_add 0 1 0
    fi
    rm -f "$tally_log"
    tally_log=''
}

# tally_skip NAME WHY
tally_skip() {
    echo "skipped $1: $2"
    tally_add 0 0 1
}

# tally_script NAME COMMAND...: a script whose last line is 'N passed, N failed[, N skipped]'. One that ends otherwise,
# or with an error that it does not count, is one failed test.
tally_script() {
    tally_name=$1
    shift
    echo "---- $tally_name"
    tally_log=$(mktemp)
    { "$@" </dev/null 2>&1; echo $? >"$tally_log.status"; } | tee "$tally_log" &
    wait "$!"
    tally_status=$(cat "$tally_log.status")
    tally_counts=$(tail -n 1 "$tally_log" |
        sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed\(, \([0-9]*\) skipped\)\{0,1\}$/\1 \2 \4/p')
    rm -f "$tally_log" "$tally_log.status"
    tally_log=''
    if [ -z "$tally_counts" ]; then
        echo "FAILED  $tally_name: ended with status $tally_status and without its counts"
        tally_counts="0 1 0"
    fi
    # shellcheck disable=SC2086 # three numbers
    set -- $tally_counts
    if [ "$tally_status" != 0 ] && [ "$2" = 0 ]; then
        echo "FAILED  $tally_name: status $tally_status"
        set -- "$1" 1 "${3:-0}"
    fi
    tally_add "$1" "$2" "${3:-0}"
}

# tally_interrupted STATUS. What runs in the background ignores SIGINT: all that has been begun is ended by name.
tally_interrupted() {
    trap '' INT TERM
    # shellcheck disable=SC2046 # a list of numbers
    kill $(tally_descendants $$) 2>/dev/null
    wait 2>/dev/null
    for tally_file in "$tally_begun" "$tally_log"; do
        [ -z "$tally_file" ] || rm -f "$tally_file" "$tally_file.status"
    done
    exit "$1"
}
trap 'tally_interrupted 130' INT
trap 'tally_interrupted 143' TERM

# Prints a process and all that descend from it.
tally_descendants() {
    ps -A -o pid= -o ppid= 2>/dev/null | awk -v first="$1" '
        { parent[$1] = $2 }
        END {
            found[first]
            do {
                more = 0
                for (process in parent)
                    if (!(process in found) && parent[process] in found) { found[process]; more = 1 }
            } while (more)
            for (process in found) print process
        }'
}

# tally_begin COMMAND...: a script as above, beside what comes next, for it has one process and there are more cores.
# tally_join NAME waits for it, shows what it said and counts.
tally_begin() {
    tally_begun=$(mktemp)
    { "$@" </dev/null; echo $? >"$tally_begun.status"; } >"$tally_begun" 2>&1 &
    tally_process=$!
}

tally_told() {
    cat "$tally_begun"
    return "$(cat "$tally_begun.status")"
}

tally_join() {
    wait "$tally_process"
    tally_process=''
    tally_script "$1" tally_told
    rm -f "$tally_begun" "$tally_begun.status"
    tally_begun=''
}

# tally_ctest NAME FOLDER [COMMAND...]: runs COMMAND (default: ctest), which runs the tests of a build folder, and counts
# their cases.
tally_ctest() {
    tally_name=$1 tally_folder=$2
    shift 2
    [ $# -gt 0 ] || set -- ctest
    echo "---- $tally_name"
    rm -f "$tally_folder/Testing/Temporary/LastTest.log"
    tally_status=0
    (cd "$tally_folder" && "$@" --output-on-failure) </dev/null &
    wait "$!" || tally_status=$?
    tally_counts=$(tally_cases "$tally_folder/Testing/Temporary/LastTest.log")
    # shellcheck disable=SC2086 # three numbers
    set -- ${tally_counts:-0 0 0}
    if [ "$tally_status" != 0 ] && [ "$2" = 0 ]; then
        echo "FAILED  $tally_name: status $tally_status"
        set -- "$1" 1 "${3:-0}"
    elif [ "$1 $2 $3" = "0 0 0" ]; then # CTest finds no fault in that
        echo "FAILED  $tally_name: no test was run in $tally_folder (built with HYMN_TESTS=OFF?)"
        set -- 0 1 0
    fi
    echo "$tally_name: $1 passed, $2 failed, $3 skipped"
    tally_add "$1" "$2" "$3"
}

# Prints PASSED FAILED SKIPPED, from CTest's log: the cases that each cmocka program says it ran; a program that says
# nothing, or dies before its summary, counts by its status.
tally_cases() {
    awk '
        /^[0-9]+\/[0-9]+ Test: / { total = done = skip = 0 }
        /^Command: ""/ { failed++; passed-- } # its program was not built: CTest says so elsewhere, and "Passed" here
        # The number before "test(s)": cmocka 2 has the name of the suite before it.
        function count(i) {
            for (i = 2; i <= NF; i++) if ($i ~ /^test\(s\)/) return $(i - 1)
            return 0
        }
        /^\[==========\] .*Running [0-9]+ test/ { total += count() }
        /^\[  PASSED  \] / { done += count() }
        /^\[  SKIPPED \] / { skip += count() }
        /^Test (Passed|Failed)/ {
            good = $0 ~ /^Test Passed/
            if (total == 0) total = 1
            if (done == 0 && skip == 0 && good) done = total
            lost = total - done - skip
            if (!good && lost == 0) { lost = 1; done -= done > 0 }
            passed += done; failed += lost; skipped += skip
        }
        END { print passed + 0, failed + 0, skipped + 0 }' "$1" 2>/dev/null
}

# Prints the sum and returns whether nothing failed.
tally_end() {
    echo "$tally_passed passed, $tally_failed failed, $tally_skipped skipped"
    [ "$tally_failed" = 0 ]
}
