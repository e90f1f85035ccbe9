# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# build_project FOLDER PRESET [TARGET...]: configures what was not configured yet, with the preset, and builds. Quiet
# unless it fails, apart from warnings; the whole output is in FOLDER/build.log.
# build_in_rig [TARGET...]: in build-rig/, by the compilers of tests/vendors/rig, with the tests.

build_jobs() {
    getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2
}

build_project() {
    build_folder=$1 build_preset=$2
    shift 2
    mkdir -p "$build_folder"
    build_log=$build_folder/build.log
    echo "Building in $build_folder/" >&2
    if [ -e "$build_folder/CMakeCache.txt" ]; then # keep the generator and the options it was made with
        cmake -S . -B "$build_folder" >"$build_log" 2>&1 || { build_failed; return 1; }
    else
        # shellcheck disable=SC2086 # a list of options
        cmake --preset "$build_preset" -B "$build_folder" ${BUILD_OPTIONS:-} >"$build_log" 2>&1 ||
            { build_failed; return 1; }
    fi
    if [ $# -gt 0 ]; then set -- --target "$@"; fi
    cmake --build "$build_folder" -j "$(build_jobs)" "$@" >>"$build_log" 2>&1 || { build_failed; return 1; }
    grep -A 3 'warning:' "$build_log" >&2 || true
}

build_in_rig() {
    if [ $# -gt 0 ]; then set -- --target "$@"; fi
    tests/vendors/rig sh cmake -S . -B build-rig -G 'Unix Makefiles' -DCMAKE_BUILD_TYPE=Release -DHYMN_WERROR=OFF \
        -DHYMN_TESTS=ON &&
        tests/vendors/rig sh cmake --build build-rig -j "$(build_jobs)" "$@"
}

build_failed() {
    grep -B 2 -A 6 -i 'error' "$build_log" >&2 || tail -n 30 "$build_log" >&2
    echo "The build failed; all of its output is in $build_log" >&2
}
