#!/bin/sh
# SPDX-License-Identifier: MIT
#
# cli.sh HYMN [MODEL]: the command from end to end, on small pictures. MODEL takes three channels and has one class. One
# line per check; the last line is 'N passed, N failed, N skipped'.
set -u
unset CDPATH
hymn=${1:?usage: cli.sh HYMN [MODEL]}
case $hymn in /*) ;; *) hymn=$PWD/$hymn ;; esac
tests=$(cd "$(dirname "$0")" && pwd)
model=${2:-$tests/golden/plain.safetensors}
case $model in /*) ;; *) model=$PWD/$model ;; esac
# shellcheck source=tests/tally.sh
. "$tests/tally.sh"
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
# Where CTest's programs keep theirs, so that shaders are compiled once.
export XDG_CACHE_HOME="${XDG_CACHE_HOME:-$(dirname "$hymn")/tests/cache}"

# ------------------------------------------------------------------------------------------------------- sample pictures

mkdir in
base64 -d >in/picture.png <<END # 60 x 40 RGB
iVBORw0KGgoAAAANSUhEUgAAADwAAAAoCAIAAAAt2Q6oAAAAr0lEQVR42u3XsQ2AIBSEYaZjCCexsrJiHmpLS0tHcA4TTQgxIvA4TZBL/v6+ijzUNtnq
UkQTTTTRRDeGHjvtNwQqQ88W1YX7jO6PZEPqVXEULXMD0KbTJiBOQQvoCiIuR2e520M7MQSd7iaa6P+hFysOj07bbQ/tuwHvdPJok2jnLr09chYB6DP5
lZe/BUOH3JF7WjSERN/Sgz+Xggk8+oMqRa+2uogmmmiiiSYa3g7Pv0g1ioqrVQAAAABJRU5ErkJggg==
END
base64 -d >in/photo.jpg <<END # 48 x 32, progressive, EXIF orientation 6: 32 x 48 to the viewer
/9j/4QAiRXhpZgAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAD/2wBDACgcHiMeGSgjISMtKygwPGRBPDc3PHtYXUlkkYCZlo+AjIqgtObDoKrarYqM
yP/L2u71////m8H////6/+b9//j/2wBDASstLTw1PHZBQXb4pYyl+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4
+Pj/wgARCAAgADADASIAAhEBAxEB/8QAGAABAQEBAQAAAAAAAAAAAAAAAAMEAgH/xAAWAQEBAQAAAAAAAAAAAAAAAAAAAQL/2gAMAwEAAhADEAAAAbkZ
rvvHQ0ARsMdbegH/xAAbEAACAgMBAAAAAAAAAAAAAAABAhAgERIhMf/aAAgBAQABBQKNhV4T2XEIO0wKf//EABQRAQAAAAAAAAAAAAAAAAAAACD/2gAI
AQMBAT8BX//EABQRAQAAAAAAAAAAAAAAAAAAACD/2gAIAQIBAT8BX//EABgQAAIDAAAAAAAAAAAAAAAAABEgEDAx/9oACAEBAAY/ArTBXE//xAAdEAAB
BAIDAAAAAAAAAAAAAAABEBEgYQAhQVGR/9oACAEBAAE/IUvwFw4gewOEJm9wIglEaHkP/9oADAMBAAIAAwAAABCizzyDz//EABQRAQAAAAAAAAAAAAAA
AAAAACD/2gAIAQMBAT8QX//EABQRAQAAAAAAAAAAAAAAAAAAACD/2gAIAQIBAT8QX//EAB0QAQABBQEBAQAAAAAAAAAAAAERABAgITFh8PH/2gAIAQEA
AT8QpQJdFfEaAkkcF8KbKA51g5BsCEjllDgedx/JUAEGi/8A/9k=
END
base64 -d >wide.png <<END # 30000 x 4, one bit
iVBORw0KGgoAAAANSUhEUgAAdTAAAAAEAQAAAABv538gAAAANUlEQVR42u3XsQ0AAAjDsP7/NNzQAYnBviLJAACnAgA0xAMA2FQAsKkAYFMBAJsKADYV
AH5bluSUBHIC0SYAAAAASUVORK5CYII=
END
base64 -d >dot.png <<END # 1 x 1
iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mNoSHAAAAKEASFXNm5OAAAAAElFTkSuQmCC
END

# An array of zeros: npy FILE DESCR SHAPE BYTES
npy() {
    text="{'descr': '$2', 'fortran_order': False, 'shape': ($3), }"
    printf '\223NUMPY\001\000\166\000%-117s\n' "$text" >"$1"
    head -c "$4" /dev/zero >>"$1"
}
npy zeros.npy '<f4' '2, 3, 24, 20' 11520
npy doubles.npy '<f8' '1, 3, 8, 8' 1536
npy four.npy '<f4' '1, 4, 8, 8' 1024
npy short.npy '<f4' '1, 3, 8, 8' 700
npy nan.npy '<f4' '1, 3, 8, 8' 768
printf '\000\000\300\177' | dd of=nan.npy bs=4 seek=$((128 / 4 + 100)) conv=notrunc 2>/dev/null

# ------------------------------------------------------------------------------------------------------------- judgement

# expect STATUS COMMAND...: leaves standard output in out, standard error in err.
expect() {
    expected=$1
    shift
    status=0
    "$@" >out 2>err || status=$?
    if [ "$status" != "$expected" ]; then
        echo "status $status, expected $expected: $*"
        cat out err
        return 1
    fi
}

# holds FILE TEXT...: the file has each text in it.
holds() {
    file=$1
    shift
    for text in "$@"; do
        grep -qF -- "$text" "$file" || {
            echo "$file has no '$text' in it:"
            cat "$file"
            return 1
        }
    done
}

# complains STATUS TEXT COMMAND...: ends with this status, prints nothing on standard output, and says why in one line
# that begins with "hymn: " and holds the text.
complains() {
    status_wanted=$1 reason=$2
    shift 2
    expect "$status_wanted" "$@" && holds err "$reason" && holds err "hymn: " || return 1
    if [ -s out ] || [ "$(wc -l <err)" != 1 ]; then
        echo "more was said than one line on standard error:"
        cat out err
        return 1
    fi
}

there() {
    for path in "$@"; do
        [ -s "$path" ] || {
            echo "$path is missing or empty:"
            ls -lR .
            return 1
        }
    done
}

count_is() { # EXPECTED FILE: lines
    [ "$(wc -l <"$2")" = "$1" ] || {
        echo "$2 has not $1 lines:"
        cat "$2"
        return 1
    }
}

no_leftovers() {
    left=$(find . -name '.hymn-*')
    [ -z "$left" ] || {
        echo "left behind: $left"
        return 1
    }
}

# ---------------------------------------------------------------------------------------------------------- command lines

help_has_examples() {
    for command in segment run eval bench devices inspect selftest; do
        expect 0 "$hymn" "$command" --help && holds out "Usage: hymn $command" "Examples:" "  hymn $command" || return 1
    done
    # A shell opens what it redirects to before hymn has made the folder.
    expect 0 "$hymn" segment --help && ! grep '> out/' out && expect 0 "$hymn" --help && holds out segment eval && expect 0 "$hymn" --version && holds out "hymn 0." &&
        expect 0 "$hymn" bench --version && holds out "hymn 0."
}

usage_errors() {
    complains 2 "a command is missing" "$hymn" &&
        complains 2 "did you mean 'segment'" "$hymn" segmnt &&
        complains 2 "did you mean --model" "$hymn" segment --modle x &&
        complains 2 "--model FILE is missing" "$hymn" segment in -o o &&
        complains 2 "--output DIR is missing" "$hymn" segment in -m "$model" &&
        complains 2 "INPUT is missing" "$hymn" segment -m "$model" -o o &&
        complains 2 "--input X.npy is missing" "$hymn" run -m "$model" -o y.npy &&
        complains 2 "--output Y.npy is missing" "$hymn" run -m "$model" -i x.npy &&
        complains 2 "--masks DIR is missing" "$hymn" eval -m "$model" -i a &&
        complains 2 "expected a whole number from 1" "$hymn" segment in -m "$model" -o o --batch 0 &&
        complains 2 "expected a number from 0 to 0.9" "$hymn" segment in -m "$model" -o o --overlap 1 &&
        complains 2 "N or HEIGHTxWIDTH" "$hymn" segment in -m "$model" -o o --size 32x &&
        complains 2 "expected a whole number from 1 to 8" "$hymn" eval -m "$model" -i a -k b --streams 9 &&
        complains 2 "auto, fp16 or fp32" "$hymn" bench -m "$model" --precision int8 &&
        complains 2 "auto or base or wide or half or matrix" "$hymn" bench -m "$model" --tier best &&
        complains 2 "HYMN_TIER 'best'" env HYMN_TIER=best "$hymn" bench -m "$model" &&
        complains 2 "--json and --trace" "$hymn" bench -m "$model" --json both --trace both && [ ! -e both ] &&
        : >both && complains 2 "--json and --trace" "$hymn" bench -m "$model" --json both --trace ./both &&
        complains 2 "HYMN_TRANSFER 'maybe'" env HYMN_TRANSFER=maybe "$hymn" bench -m "$model" &&
        complains 2 "needs a value" "$hymn" run --model &&
        complains 2 "unexpected argument 'x'" "$hymn" devices x &&
        complains 2 "--selftest and --runs need --report" "$hymn" devices --selftest &&
        complains 2 "--selftest and --runs need --report" "$hymn" devices --json --runs 2 &&
        complains 2 "--json and --report" "$hymn" devices --json --report=quick
}

# ------------------------------------------------------------------------------------------------------- devices, inspect

devices() {
    expect 0 "$hymn" devices && holds out device driver tier &&
        expect 0 "$hymn" devices --json && holds out '"uuid"' '"transfer_queue": ' '"usable": true' '"tier": "' &&
        expect 0 "$hymn" devices --report=quick --device 0 && holds out '"pipelines"' '"built": true' '"selftest": null' \
        '"usable": true' '"reason": null' &&
        expect 0 "$hymn" devices --help && holds out --selftest verdict &&
        complains 2 "full or quick" "$hymn" devices --report=long
}

one_device() {
    # The variable is for commands that take one device: this one is what tells of a wrong value.
    expect 0 env HYMN_DEVICE=nonesuch "$hymn" devices --json && cp out all && expect 0 "$hymn" devices --json &&
        cmp all out && expect 0 "$hymn" devices --json --device 0 &&
        [ "$(grep -c '"uuid"' out)" = 1 ] && holds out '"index": 0' || return 1
    uuid=$(sed -n 's/.*"uuid": "\([0-9a-f]*\)".*/\1/p' out)
    expect 0 "$hymn" devices -d "$uuid" && [ "$(grep -c '^ *0 ' out)" = 1 ] && ! grep '^ *1 ' out &&
        expect 3 "$hymn" devices --device nonesuch && holds err 'hymn: no Vulkan device matches "nonesuch"' "0: " &&
        [ ! -s out ] && expect 3 env HYMN_DEVICE=nonesuch "$hymn" devices --report &&
        holds err 'hymn: HYMN_DEVICE: no Vulkan device matches "nonesuch"' && holds out '"devices": []'
}

# The loader shows drivers of devices that lack a part of Vulkan, as MoltenVK, only to who asks for them.
portability_drivers() {
    sed 's/"ICD": *{/"ICD": { "is_portability_driver": true,/' "$lavapipe" >portable.json
    expect 0 env VK_DRIVER_FILES="$PWD/portable.json" VK_ICD_FILENAMES="$PWD/portable.json" "$hymn" devices &&
        holds out llvmpipe
}

inspect() {
    expect 0 "$hymn" inspect "$model" && holds out hymunet parameters offset GMAC &&
        expect 0 "$hymn" inspect "$model" --json --size 64 && holds out '"macs"' '"layers"' '"offset"'
}

broken_models() {
    head -c 5000 "$model" >cut.safetensors
    echo "no model" >text.safetensors
    : >empty.safetensors
    for file in cut text empty; do
        complains 3 "$file.safetensors" "$hymn" inspect "$file.safetensors" &&
            complains 3 "$file.safetensors" "$hymn" segment in -m "$file.safetensors" -o none || return 1
    done
    complains 3 "missing.safetensors" "$hymn" bench -m missing.safetensors && [ ! -e none ]
}

unfit_models() {
    complains 3 "takes 4 channels" "$hymn" segment in -m "$tests/golden/classes_3.safetensors" -o none && [ ! -e none ]
}

# ---------------------------------------------------------------------------------------------------------------- segment

one_picture() {
    expect 0 "$hymn" segment in/picture.png --model "$model" --output one &&
        there one/picture_mask.png one/picture_overlay.png && count_is 1 out && count_is 0 err &&
        holds out '"file":"in/picture.png"' '"width":60' '"height":40' '"mask":"one/picture_mask.png"' \
            '"overlay":"one/picture_overlay.png"' '"area":' '"fraction":' '"bounding_box":' '"classes":[{"name":'
}

orientation_is_applied() {
    expect 0 "$hymn" segment in/photo.jpg -m "$model" -o one --no-overlay && holds out '"width":32' '"height":48' &&
        [ ! -e one/photo_overlay.png ]
}

folders() {
    mkdir -p tree/deep/er tree/empty && cp in/picture.png tree/b.PNG && cp in/photo.jpg tree/deep/er/a.jpeg &&
        cp in/photo.jpg tree/b.jpg && echo text >tree/notes.txt || return 1
    expect 0 "$hymn" segment tree -m "$model" -o tree/out && count_is 3 out &&
        there tree/out/b_mask.png tree/out/b-2_mask.png tree/out/deep/er/a_overlay.png || return 1
    expect 0 "$hymn" segment tree -m "$model" -o tree/out && count_is 3 out && count_is 0 err || return 1 # what it wrote is no input
    mkdir elsewhere && cp in/photo.jpg elsewhere/c.jpg && cp in/photo.jpg tree/.hidden.jpg && ln -s ../elsewhere tree/link &&
        ln -s .. tree/deep/up && expect 0 "$hymn" segment tree -m "$model" -o tree/out && count_is 4 out &&
        there tree/out/link/c_mask.png && count_is 1 err &&
        holds err "hymn: warning: tree/deep/up: leads back to a folder that it is in; left out"
}

order_of_lines() {
    expect 0 "$hymn" segment in dot.png in/photo.jpg -m "$model" -o order --batch 3 --jobs 4 --no-overlay || return 1
    sed 's/.*"file":"\([^"]*\)".*/\1/' out >names
    printf 'in/photo.jpg\nin/picture.png\ndot.png\nin/photo.jpg\n' >wanted
    diff wanted names && there order/photo-2_mask.png
}

standard_input() {
    status=0
    "$hymn" segment - -m "$model" -o stdin <in/photo.jpg >out 2>err || status=$?
    [ "$status" = 0 ] && there stdin/stdin_mask.png && holds out '"file":"-"' || return 1
    status=0
    "$hymn" segment - -m "$model" -o stdin </dev/null >out 2>err || status=$?
    [ "$status" = 1 ] && holds err "standard input: empty file"
}

batches_change_nothing() {
    expect 0 "$hymn" segment in dot.png -m "$model" -o batch1 --probabilities=npy &&
        expect 0 "$hymn" segment in dot.png -m "$model" -o batch3 --probabilities=npy --batch 3 &&
        diff -r batch1 batch3 && there batch1/photo_probability.npy
}

probabilities() {
    expect 0 "$hymn" segment in/picture.png -m "$model" -o probability --probabilities &&
        there probability/picture_probability.png &&
        holds out '"probabilities":"probability/picture_probability.png"' &&
        expect 0 "$hymn" segment in/picture.png -m "$model" -o probability --probabilities=npy &&
        [ "$(wc -c <probability/picture_probability.npy)" = $((128 + 4 * 60 * 40)) ] || return 1
    # An input that has the name of an output stays.
    mkdir named && cp in/picture.png named/p.png && cp in/picture.png named/p_probability.png &&
        expect 0 "$hymn" segment named/p.png named/p_probability.png -m "$model" -o named --probabilities &&
        cmp in/picture.png named/p_probability.png &&
        there named/p-2_probability.png named/p_probability_probability.png
}

thresholds() {
    expect 0 "$hymn" segment in/picture.png -m "$model" -o threshold --threshold 0.000001 && holds out '"area":2400,' \
        '"fraction":1.0' '"bounding_box":[0,0,60,40]' &&
        expect 0 "$hymn" segment in/picture.png -m "$model" -o threshold --threshold 1 && holds out '"area":0,' \
        '"bounding_box":null'
}

tiles() {
    expect 0 "$hymn" segment in -m "$model" -o tiles --tile --size 16x24 --overlap 0.5 --batch 4 --probabilities=npy &&
        count_is 2 out && there tiles/picture_mask.png tiles/photo_overlay.png &&
        [ "$(wc -c <tiles/picture_probability.npy)" = $((128 + 4 * 60 * 40)) ] || return 1
    expect 0 "$hymn" segment in -m "$model" -o tiles1 --tile --size 16x24 --overlap 0.5 --batch 1 --probabilities=npy &&
        diff -r tiles tiles1 || return 1
    # One tile of the picture's own size is the picture.
    expect 0 "$hymn" segment in/picture.png -m "$model" -o whole --size 40x60 --probabilities=npy &&
        expect 0 "$hymn" segment in/picture.png -m "$model" -o tiled --size 40x60 --tile --probabilities=npy &&
        diff -r whole tiled
}

inputs_are_kept() {
    mkdir kept && cp in/picture.png kept/x.png && cp in/photo.jpg kept/x_mask.png && cp kept/x_mask.png before || return 1
    expect 0 "$hymn" segment kept/x.png kept/x_mask.png -m "$model" -o kept && cmp before kept/x_mask.png &&
        there kept/x-2_mask.png kept/x_mask_mask.png &&
        complains 2 "both an input and the output" "$hymn" segment kept -m "$model" -o kept
}

# -------------------------------------------------------------------------------------------------------------- bad input

bad_pictures() {
    mkdir bad && head -c 100 in/picture.png >bad/a.png && head -c 400 in/photo.jpg >bad/b.jpg && : >bad/c.png &&
        echo hello >bad/d.png && cp in/picture.png bad/good.png && ln -s nowhere bad/e.png || return 1
    expect 1 "$hymn" segment bad missing.png -m "$model" -o badout --batch 2 || return 1
    count_is 1 out && count_is 6 err && there badout/good_mask.png && [ ! -e badout/a_mask.png ] &&
        holds err "hymn: bad/a.png: truncated PNG" "hymn: bad/b.jpg: truncated JPEG" "hymn: bad/c.png: empty file" \
            "hymn: bad/d.png: is neither a PNG nor a JPEG" "hymn: bad/e.png: cannot be read: No such file" \
            "hymn: missing.png: cannot be opened: No such file" && no_leftovers
}

one_pixel() {
    expect 0 "$hymn" segment dot.png -m "$model" -o small && there small/dot_mask.png &&
        holds out '"width":1' '"height":1' && expect 0 "$hymn" segment dot.png -m "$model" -o small --tile
}

thirty_thousand_wide() {
    status=0
    "$hymn" segment wide.png in/picture.png -m "$model" -o wide --batch 2 >out 2>err || status=$?
    there wide/picture_mask.png || return 1
    if [ "$status" = 1 ]; then # beyond this device: said so, and the other picture went on
        count_is 1 out && holds err "hymn: wide.png: "
    else
        [ "$status" = 0 ] && count_is 2 out && holds out '"width":30000'
    fi
}

empty_folder() {
    mkdir nothing
    complains 1 "nothing: there is no .png" "$hymn" segment nothing -m "$model" -o none2
}

fill_disk() { # TEXT: what the complaint says
    head -c 12000 /dev/zero >full/filler 2>/dev/null
    expect 1 "$hymn" segment in in in -m "$model" -o full/out --size 32 --probabilities=npy &&
        holds err "$1" "hymn: full/out/" && no_leftovers
}

full_disk() {
    mkdir full
    if mount -t tmpfs -o size=16k tmpfs full 2>/dev/null; then
        fill_disk "No space left"
        result=$?
        umount full
        return $result
    fi
    # Without the right to mount: no file beyond half a kilobyte.
    ulimit -f 1
    fill_disk "hymn: full/"
}

full_devices() {
    [ -c /dev/full ] || return 0
    complains 1 "/dev/full: cannot be written: No space left" "$hymn" run -m "$model" -i zeros.npy -o /dev/full || return 1
    status=0
    "$hymn" segment in/picture.png -m "$model" -o fullout >/dev/full 2>err || status=$?
    [ "$status" = 1 ] && holds err "hymn: standard output: No space left"
}

# Without a standard stream, a file that is opened would take its number and get what is said there.
closed_streams() {
    mkdir mixed && for i in 1 2 3; do
        for j in 0 1 2 3 4 5 6 7 8 9; do
            cp in/picture.png "mixed/$i$j.png" && head -c 100 in/picture.png >"mixed/$i$j-cut.png" || return 1
        done
    done
    expect 1 "$hymn" segment mixed -m "$model" -o open || return 1
    for closed in 0 1 2; do
        status=0
        case $closed in
        0) "$hymn" segment mixed -m "$model" -o "closed$closed" -j 6 <&- >out 2>err ;;
        1) "$hymn" segment mixed -m "$model" -o "closed$closed" -j 6 >&- 2>err ;;
        2) "$hymn" segment mixed -m "$model" -o "closed$closed" -j 6 >out 2>&- ;;
        esac || status=$?
        [ "$status" = 1 ] && diff -r open "closed$closed" || return 1
    done
    "$hymn" segment - -m "$model" -o none4 <&- 2>err || holds err "hymn: standard input: cannot be read"
}

unwritable_folder() {
    : >plain-file
    complains 1 "hymn: plain-file/below: folder cannot be made: Not a directory" "$hymn" segment in -m "$model" \
        -o plain-file/below
}

no_vulkan() {
    export VK_ICD_FILENAMES=/nonexistent VK_DRIVER_FILES=/nonexistent VK_LOADER_DEBUG=
    complains 3 "there is no Vulkan device on this machine" "$hymn" devices && cp err said &&
        expect 3 "$hymn" devices --report && cmp said err && holds out '"devices": []' &&
        complains 3 "" "$hymn" segment in -m "$model" -o none3 &&
        complains 3 "" "$hymn" run -m "$model" -i zeros.npy -o y.npy && complains 3 "" "$hymn" bench -m "$model" &&
        expect 0 "$hymn" inspect "$model" # needs none
    result=$?
    unset VK_ICD_FILENAMES VK_DRIVER_FILES VK_LOADER_DEBUG
    return $result
}

no_such_device() {
    for number in 45 56 15 25; do # more devices than there are, though their names may have such digits
        expect 3 "$hymn" run -m "$model" -i zeros.npy -o y.npy --device $number &&
            holds err "hymn: no Vulkan device matches \"$number\"" "0: " || return 1
    done
    # The devices that there are follow on further lines.
    expect 3 "$hymn" run -m "$model" -i zeros.npy -o y.npy --device nonesuch &&
        holds err 'hymn: no Vulkan device matches "nonesuch"' "0: " &&
        expect 3 env HYMN_DEVICE=nonesuch "$hymn" run -m "$model" -i zeros.npy -o y.npy &&
        holds err 'hymn: HYMN_DEVICE: no Vulkan device matches "nonesuch"' &&
        expect 3 env HYMN_DEVICE=nothing "$hymn" run -m "$model" -i zeros.npy -o y.npy --device nonesuch &&
        holds err 'hymn: no Vulkan device matches "nonesuch"' &&
        expect 0 env HYMN_DEVICE=nonesuch "$hymn" run -m "$model" -i zeros.npy -o y.npy --device "${HYMN_DEVICE:-0}"
}

# --------------------------------------------------------------------------------------------------- run, eval, bench

run_arrays() {
    expect 0 "$hymn" run --model "$model" --input zeros.npy --output y1.npy &&
        expect 0 "$hymn" run --model "$model" --input zeros.npy --output y2.npy --batch 2 && cmp y1.npy y2.npy &&
        [ "$(wc -c <y1.npy)" = $((128 + 4 * 2 * 24 * 20)) ] && holds y1.npy "'shape': (2, 1, 24, 20)"
}

# Another name of standard output, as /dev/stdout is. Never the machine's own one: a defect would replace that.
output_through_links() {
    expect 0 "$hymn" run -m "$model" -i zeros.npy -o plain.npy && mkdir dev && echo old >dev/target &&
        ln -s target dev/link && ln -s "/proc/self/fd/1" dev/stdout || return 1
    expect 0 "$hymn" run -m "$model" -i zeros.npy -o dev/link && [ -L dev/link ] && cmp plain.npy dev/target || return 1
    [ -e /proc/self/fd/1 ] || return 0
    "$hymn" run -m "$model" -i zeros.npy -o dev/stdout >dev/file.npy && [ -L dev/stdout ] &&
        cmp plain.npy dev/file.npy && { echo before && "$hymn" run -m "$model" -i zeros.npy -o dev/stdout; } >dev/both &&
        { echo before && cat plain.npy; } | cmp - dev/both &&
        "$hymn" run -m "$model" -i zeros.npy -o dev/stdout | cmp plain.npy - && [ -L dev/stdout ] &&
        "$hymn" run -m "$model" -i zeros.npy -o /dev/fd/3 3>dev/third && cmp plain.npy dev/third &&
        ! "$hymn" run -m "$model" -i zeros.npy -o dev/stdout >&- 2>err && holds err "dev/stdout: cannot be written"
}

array_to_standard_output() {
    expect 0 "$hymn" run -m "$model" -i zeros.npy -o plain.npy || return 1
    "$hymn" run -m "$model" -i - -o - <zeros.npy >piped.npy && cmp plain.npy piped.npy && [ ! -e ./- ] || return 1
    "$hymn" run -m "$model" -i zeros.npy -o - | cmp plain.npy - || return 1
    status=0
    "$hymn" run -m "$model" -i zeros.npy -o - >&- 2>err || status=$?
    [ "$status" = 1 ] && holds err "hymn: standard output: cannot be written"
}

# Told before there is a device to compute on.
outputs_that_cannot_be_written() {
    : >plain-file
    for output in nowhere/y.npy in plain-file/y.npy; do
        complains 1 "hymn: $output: cannot be written" env VK_ICD_FILENAMES=/nonexistent VK_DRIVER_FILES=/nonexistent \
            "$hymn" run -m "$model" -i zeros.npy -o "$output" || return 1
    done
    echo old >kept.npy
    complains 3 "" env VK_ICD_FILENAMES=/nonexistent VK_DRIVER_FILES=/nonexistent "$hymn" run -m "$model" -i zeros.npy \
        -o kept.npy && [ "$(cat kept.npy)" = old ] && no_leftovers
}

outputs_that_are_the_model() {
    cp "$model" own.safetensors && ln -s own.safetensors linked || return 1
    complains 2 "run: --output 'own.safetensors' is the model" "$hymn" run -m own.safetensors -i zeros.npy -o own.safetensors &&
        complains 2 "run: --output './own.safetensors' is the model" "$hymn" run -m linked -i zeros.npy -o ./own.safetensors &&
        complains 2 "eval: --json 'linked' is the model" "$hymn" eval -m own.safetensors -i in -k in --json linked &&
        complains 2 "bench: --json 'own.safetensors' is the model" "$hymn" bench -m own.safetensors --json own.safetensors &&
        complains 2 "bench: --trace 'linked' is the model" "$hymn" bench -m own.safetensors --trace linked &&
        cmp "$model" own.safetensors && no_leftovers
}

bad_arrays() {
    complains 1 "doubles.npy: array of type '<f8'" "$hymn" run -m "$model" -i doubles.npy -o y.npy &&
        complains 1 "four.npy: array of 4 channels; the model takes 3" "$hymn" run -m "$model" -i four.npy -o y.npy &&
        complains 1 "short.npy: truncated" "$hymn" run -m "$model" -i short.npy -o y.npy &&
        complains 1 "nan.npy: array holds NaN or infinity: element 100 of 192" "$hymn" run -m "$model" -i nan.npy -o y.npy &&
        complains 1 "picture.png: is no .npy file" "$hymn" run -m "$model" -i in/picture.png -o y.npy &&
        complains 1 "missing.npy: cannot be opened" "$hymn" run -m "$model" -i missing.npy -o y.npy
}

evaluation() {
    # Masks that hymn made itself: whatever the model, it agrees with them.
    mkdir truth && expect 0 "$hymn" segment in -m "$model" -o made --no-overlay || return 1
    cp made/picture_mask.png truth/picture_segmentation.png && cp made/photo_mask.png truth/photo.png || return 1
    expect 0 "$hymn" eval --model "$model" --images in --masks truth --json eval.json && holds out "2 pictures" hd95 &&
        holds eval.json '"images": 2' '"dice_mean": 1.0' '"iou_mean": 1.0' '"dice_pooled": 1.0' '"iou_pooled": 1.0' \
            '"accuracy": 1.0' '"sensitivity": 1.0' '"specificity": 1.0' '"hd95": 0.0'
}

masks_of_any_depth() {
    mkdir dots dotmasks && cp dot.png dots/dot.png || return 1
    # One pixel of grey: 255 of 8 bits, 1 of 2, of 4 and of 16 bits.
    for mask in iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP4DwABAQEAHLCMmQAAAABJRU5ErkJggg== \
        iVBORw0KGgoAAAANSUhEUgAAAAEAAAABAgAAAABwzoP0AAAACklEQVR42mNwAAAAQgBBhL+OYgAAAABJRU5ErkJggg== \
        iVBORw0KGgoAAAANSUhEUgAAAAEAAAABBAAAAAD/jnZUAAAACklEQVR42mMQAAAAEgARCN69wwAAAABJRU5ErkJggg== \
        iVBORw0KGgoAAAANSUhEUgAAAAEAAAABEAAAAABq7kcWAAAAC0lEQVR42mNgYAQAAAQAAizeSK0AAAAASUVORK5CYII=; do
        echo "$mask" | base64 -d >dotmasks/dot.png && expect 0 "$hymn" eval -m "$model" -i dots -k dotmasks --json - || return 1
        [ -e inside.json ] || cp out inside.json
        cmp out inside.json || return 1
    done
}

missing_and_unfit_masks() {
    mkdir some && cp in/picture.png some/a.png && cp in/picture.png some/b.png && cp in/picture.png some/c.png &&
        mkdir somemasks && cp made/picture_mask.png somemasks/a.png && cp made/photo_mask.png somemasks/b.png || return 1
    expect 1 "$hymn" eval -m "$model" --images some --masks somemasks --json - && holds out '"images": 1' '"failed": 2' &&
        count_is 2 err && holds err "hymn: some/c.png: there is no mask c_segmentation.png, c.png or c_mask.png in somemasks" \
        "hymn: somemasks/b.png: is 32 x 48 pixels, but the picture some/b.png is 60 x 40"
}

# A mask that cannot be read is not one that is not there: no other file is taken in its place. A pipe is no mask.
masks_that_cannot_be_read() {
    mkdir odd oddmasks && for name in a b c d; do
        cp in/picture.png odd/$name.png && cp made/picture_mask.png oddmasks/$name.png || return 1
    done
    ln -s a_segmentation.png oddmasks/a_segmentation.png && ln -s nowhere oddmasks/b_segmentation.png &&
        mkfifo oddmasks/c_segmentation.png && ln -s d.png oddmasks/d_segmentation.png || return 1
    begin "$hymn" eval -m "$model" -i odd -k oddmasks --json -
    ends 1 && holds out '"images": 2' '"failed": 2' '"dice_mean": 1.0' && count_is 2 err &&
        holds err "hymn: oddmasks/a_segmentation.png: cannot be opened: " \
            "hymn: oddmasks/b_segmentation.png: cannot be opened: No such file"
}

masks_beside_pictures() {
    mkdir -p beside/below && cp in/photo.jpg beside && cp in/photo.jpg beside/below/p.jpg && cp made/photo_mask.png beside/photo.png &&
        cp made/photo_mask.png beside/below/p.png && cp in/picture.png made/picture_mask.png beside || return 1
    expect 0 "$hymn" eval -m "$model" -i beside/ -k beside --json - && holds out '"images": 3' '"failed": 0' && count_is 0 err || return 1
    cp dot.png beside/lonely.png && cp in/photo.jpg beside/bare.jpg || return 1
    expect 1 "$hymn" eval -m "$model" -i beside -k beside --json - && holds out '"images": 3' '"failed": 2' && count_is 2 err &&
        holds err "hymn: beside/lonely.png: there is no mask" "hymn: beside/bare.jpg: there is no mask"
}

benchmark() {
    # A cold start compiles everything anew: a model of few shaders.
    quick=$tests/golden/one_stage_conv.safetensors
    expect 0 "$hymn" bench -m "$quick" --size 32 --runs 3 --warmup 1 --json bench.json --trace trace.json --profile &&
        holds out "wall p50" "images/s" "GFLOP/s" "share" "of ceiling" "ceiling: " "least: " "where each copies" "without their timestamps" && holds trace.json '"traceEvents"' '"ph": "X"' &&
        holds bench.json '"device"' '"driver"' '"precision"' '"size"' '"batch"' '"gpu_ms"' '"wall_ms"' \
            '"images_per_second"' '"streams"' '"runs_in_flight"' '"streams_activation_bytes"' '"operators_ms"' '"ceiling_gbps"' '"ceiling_gflops"' '"dispatch_us"' '"chain_ms"' '"share_of_ceiling"' \
            '"cold_start_ms"' '"warm_start_ms"' '"cold_ready_ms"' '"warm_ready_ms"' '"device_bytes"' '"host_bytes"' \
            '"max_abs_error"' '"p50"' '"p90"' '"p99"' || return 1
    expect 0 "$hymn" bench -m "$quick" --size 32x48 --batch 1,2 --runs 1 --warmup 0 --precision fp32 --input tensor \
        --tier base --no-check --json - && [ "$(grep -c '"max_abs_error": null' out)" = 2 ] &&
        holds out '"precision": "fp32"' '"tier": "base"' || return 1
    # What was asked for decides on the form, not what could be measured.
    expect 3 "$hymn" bench -m "$quick" --size 32,32768 --runs 1 --warmup 0 --no-check --json - &&
        [ "$(head -n 1 out)" = "[" ] && [ "$(grep -c '"max_abs_error": null' out)" = 1 ] || return 1
    expect 0 "$hymn" bench -m "$quick" --size 32 --runs 1 --warmup 0 --no-check --cache kept/caches &&
        [ -n "$(ls kept/caches)" ] && touch taken &&
        complains 1 "taken" "$hymn" bench -m "$quick" --size 32 --runs 1 --cache taken
}

selftest() {
    # Of few shaders: the test api_selftest has all of them.
    expect 0 "$hymn" selftest norm max_pool --runs 2 && holds out "norm_stats" "max_pool" "against C" "passed" &&
        ! holds out "conv2d_tiled" || return 1
    expect 0 "$hymn" selftest gate --runs 2 --tier base --json &&
        holds out '"variant": "gate' '"verdict": "passed"' '"differing": 0' '"base": true' &&
        complains 2 "no variant's name contains 'now'" "$hymn" selftest gate now
}

# What names and values out of files and on the command line may have in them and could move a terminal's cursor.
printable() {
    escape=$(printf '\033[31m')
    # A class of that name, in as many bytes of the header as before.
    LC_ALL=C sed 's/\[\\"class0\\"\], \\"threshold\\": 0.5}/[\\"a|b\\\\u001b[31m\\"]            }/' "$model" >red.safetensors
    npy red.npy "<$escape" '1, 3, 8, 8' 768
    expect 0 "$hymn" inspect red.safetensors && cp out printed && holds out 'classes       1: a|b?[31m, threshold' &&
        expect 0 "$hymn" eval -m red.safetensors --images in --masks truth && cat out >>printed &&
        holds out 'a|b?[31m  1.0000  1.0000' && complains 1 "x?[31m.png: cannot be opened" \
        "$hymn" segment "x$escape.png" -m "$model" -o none && cat err >>printed &&
        complains 1 "array of type '<?[31m'" "$hymn" run -m "$model" -i red.npy -o y.npy && cat err >>printed || return 1
    if grep -F "$escape" printed; then return 1; fi
    # Programs get them as they are.
    expect 0 "$hymn" inspect red.safetensors --json && holds out '"a|b\u001B[31m"' &&
        expect 0 "$hymn" eval -m red.safetensors --images in --masks truth --json - && holds out '"a|b\u001B[31m"' &&
        expect 0 "$hymn" segment in/picture.png -m red.safetensors -o red && holds out '"a|b\u001B[31m"'
}

# -------------------------------------------------------------------------------------------------- interrupts, terminals

# SIGINT is not among the signals here: a shell without job control has its background processes ignore it, and what is
# ignored stays so. The test cli_interrupt raises it.

begin() { # COMMAND...: in the background, with what is in the file `input` (a pipe that nobody writes to, if there is none)
    [ -e input ] || mkfifo input
    "$@" <>input >out 2>err &
    pid=$!
}

come() { # COMMAND...: waits, while the process that began is there, until the command succeeds
    tries=0
    until "$@" || [ "$tries" = 600 ] || ! kill -0 "$pid" 2>/dev/null; do
        sleep 0.05
        tries=$((tries + 1))
    done
}

ends() { # STATUS: of the process that began, within a minute
    (sleep 60 && kill -KILL "$pid") >/dev/null 2>&1 &
    watchdog=$!
    status=0
    wait "$pid" || status=$?
    kill "$watchdog" 2>/dev/null
    [ "$status" = "$1" ] || {
        echo "status $status, expected $1"
        cat out err
        return 1
    }
}

hangup() { # SIGHUP, or another signal where nohup has it ignored
    if [ -n "$(sh -c 'kill -HUP $$; echo ignored' 2>/dev/null)" ]; then echo TERM; else echo HUP; fi
}

interrupt() { # SIGNAL
    rm -rf out stopped
    begin "$hymn" segment many -m "$model" -o stopped
    come test -s out
    kill "-$1" "$pid" 2>/dev/null
    status=0
    wait "$pid" || status=$?
    no_leftovers || return 1
    masks=$(find stopped -name '*_mask.png' | wc -l)
    count_is "$masks" out || return 1
    [ "$status" = 0 ] && [ "$masks" = 90 ] && return 0 # it was faster
    [ "$status" = 130 ] && holds err "hymn: interrupted: $((90 - masks)) of 90 pictures were not segmented"
}

interrupts() {
    mkdir many && for i in 1 2 3 4 5 6 7 8 9; do
        for j in 0 1 2 3 4 5 6 7 8 9; do cp in/picture.png "many/$i$j.png"; done
    done
    interrupt TERM && interrupt "$(hangup)"
}

ignored_interrupts() {
    rm -rf out stopped
    begin sh -c "trap '' INT TERM HUP"' && exec "$@"' sh "$hymn" segment many -m "$model" -o stopped
    come test -s out
    kill -INT "$pid" && kill -TERM "$pid" && kill -HUP "$pid" && ends 0 && count_is 90 out
}

interrupted_waiting() {
    for words in "run -i - -o y.npy" "segment - -o stopped"; do
        # shellcheck disable=SC2086 # some words
        begin "$hymn" $words -m "$model"
        sleep 1
        kill -TERM "$pid" && ends 130 && holds err "interrupted" && [ ! -s out ] || return 1
    done
}

# Named pipes that nobody has opened at the other end.
interrupted_pipes() {
    mkfifo pipe.npy pipe.png || return 1
    for words in "run -i pipe.npy -o y.npy" "segment pipe.png -o stopped" "run -i zeros.npy -o pipe.npy"; do
        for signal in TERM "$(hangup)"; do
            # shellcheck disable=SC2086 # some words
            begin "$hymn" $words -m "$model"
            sleep 1
            kill "-$signal" "$pid" && ends 130 && holds err "interrupted" && [ ! -s out ] || return 1
        done
    done
}

# Nobody reads the results any more, while the next picture is waited for.
stopped_waiting() {
    # shellcheck disable=SC2016 # for the shell that begins
    begin sh -c '{ "$@"; echo "$?" >status; } | :' sh "$hymn" segment in/picture.png - -m "$model" -o piped --jobs 1
    ends 0 && holds status 1 && there piped/picture_mask.png && holds err "standard output: Broken pipe" \
        "hymn: stopped: 1 of 2 pictures were not segmented" && count_is 2 err
}

named_pipes() {
    mkfifo from.npy to.npy empty.npy && expect 0 "$hymn" run -m "$model" -i zeros.npy -o straight.npy || return 1
    # In parts, the first of them late.
    { sleep 1 && head -c 5000 zeros.npy && sleep 1 && tail -c +5001 zeros.npy; } >from.npy &
    { sleep 1 && cat to.npy; } >piped.npy &
    expect 0 "$hymn" run -m "$model" -i from.npy -o to.npy && wait "$!" && cmp straight.npy piped.npy && [ -p to.npy ] || return 1
    [ "$(uname)" = Darwin ] && return 0 # cannot tell it from one that nobody has written to yet
    (sleep 1 && : >empty.npy) &
    complains 1 "empty.npy: empty file" "$hymn" run -m "$model" -i empty.npy -o y.npy
}

interrupted_selftest() {
    begin "$hymn" selftest --runs 100000
    sleep 1
    kill -TERM "$pid" && ends $((128 + 15))
}

find_cache() {
    [ -n "$(ls temporary)" ]
}

bench_leaves_nothing() {
    mkdir temporary
    begin env TMPDIR="$PWD/temporary" "$hymn" bench -m "$model" --size 32 --seconds 1000
    come find_cache && kill "-$(hangup)" "$pid" && ends 130 && [ -z "$(ls temporary)" ]
}

quiet_without_terminal() {
    expect 0 "$hymn" segment in -m "$model" -o quiet && count_is 0 err
}

bar_on_a_terminal() {
    script -qec "'$hymn' segment in -m '$model' -o bar" /dev/null >terminal 2>&1 && holds terminal "2/2" "#"
}

tally_check "help, examples, versions" help_has_examples
tally_check "wrong command lines: one line, status 2, suggestions" usage_errors
tally_check "devices: table and JSON" devices
tally_check "devices: one of them; HYMN_DEVICE" one_device
lavapipe=$(find /usr/share/vulkan/icd.d -name "lvp_icd*$(uname -m).json" 2>/dev/null | head -n 1)
if [ -n "$lavapipe" ]; then
    tally_check "devices: drivers of portability" portability_drivers
else
    tally_skip "devices: drivers of portability" "no lavapipe in /usr/share/vulkan/icd.d"
fi
tally_check "inspect: table and JSON" inspect
tally_check "broken models: named, status 3" broken_models
tally_check "a model that takes no pictures" unfit_models
tally_check "segment: one picture, mask, overlay, JSON line" one_picture
tally_check "segment: EXIF orientation" orientation_is_applied
tally_check "segment: folders, sub-folders, equal names, output folder inside" folders
tally_check "segment: lines in the order of the inputs" order_of_lines
tally_check "segment: standard input" standard_input
tally_check "segment: the same bits at any batch" batches_change_nothing
tally_check "segment: probabilities as PNG and .npy" probabilities
tally_check "segment: thresholds, area, bounding box" thresholds
tally_check "segment: tiles" tiles
tally_check "segment: inputs are never overwritten" inputs_are_kept
tally_check "bad pictures: named with the cause, the rest go on" bad_pictures
tally_check "a picture of one pixel" one_pixel
tally_check "a picture 30,000 pixels wide" thirty_thousand_wide
tally_check "a folder without pictures" empty_folder
tally_check "a full disk" full_disk
tally_check "full devices" full_devices
tally_check "standard streams that are closed" closed_streams
tally_check "an output folder that cannot be made" unwritable_folder
tally_check "no Vulkan at all" no_vulkan
tally_check "no such device; HYMN_DEVICE" no_such_device
tally_check "selftest" selftest
tally_check "run: arrays in, logits out" run_arrays
tally_check "run: through links, to another name of standard output" output_through_links
tally_check "run: to standard output" array_to_standard_output
tally_check "run: outputs that cannot be written" outputs_that_cannot_be_written
tally_check "run, eval, bench: outputs that are the model" outputs_that_are_the_model
tally_check "run: bad arrays" bad_arrays
tally_check "eval: figures of perfect masks" evaluation
tally_check "eval: masks of 0 and 1 of any depth" masks_of_any_depth
tally_check "eval: missing and unfit masks" missing_and_unfit_masks
tally_check "eval: masks that cannot be read" masks_that_cannot_be_read
if LC_ALL=C grep -qF '[\"class0\"], \"threshold\": 0.5}' "$model"; then
    tally_check "control characters in names; '|' in a class's" printable
else
    tally_skip "control characters in names; '|' in a class's" "another model, whose class has another name"
fi
tally_check "eval: masks beside their pictures" masks_beside_pictures
tally_check "bench: table, JSON, profile, trace" benchmark
tally_check "an interrupt finishes cleanly" interrupts
tally_check "signals that are ignored stay so" ignored_interrupts
tally_check "an interrupt of who waits for input" interrupted_waiting
tally_check "an interrupt of who waits at a named pipe" interrupted_pipes
tally_check "the end of who reads the results, while input is waited for" stopped_waiting
tally_check "named pipes" named_pipes
tally_check "an interrupt of the self-test" interrupted_selftest
tally_check "bench: a terminal that is closed" bench_leaves_nothing
tally_check "no progress bar without a terminal" quiet_without_terminal
if command -v script >/dev/null && script -qec true /dev/null >/dev/null 2>&1; then
    tally_check "a progress bar on a terminal" bar_on_a_terminal
else
    tally_skip "a progress bar on a terminal" "no script(1) to make a terminal with"
fi
tally_end
