# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# packages NEED...: makes sure that everything named is there, through apt, dnf, pacman or brew, as root or with sudo.
# Installs nothing when all is there. What is missing and cannot be installed is named, and the status is 1.

package_prefix=$(brew --prefix 2>/dev/null || true) # Homebrew's folder

# Whether a need is met.
# shellcheck disable=SC2086 # compilers may be of several words, as "ccache gcc"
package_there() {
    case $1 in
    cc) package_command ${CC:-cc} ;;
    make | cmake | cmp | shellcheck | clang | clang-format | spirv-val) command -v "$1" >/dev/null ;;
    pkg-config) command -v pkg-config >/dev/null ;;
    glslang) command -v glslangValidator >/dev/null || command -v glslang >/dev/null ;;
    vulkan-headers) package_header vulkan/vulkan.h ;;
    volk) package_header volk.h ;;
    jansson | cmocka) package_header "$1.h" ;;
    png) package_header png.h ;;
    jpeg) package_header stdio.h jpeglib.h ;;
    c++) package_command ${CXX:-c++} ;;
    vulkan-loader) package_library 'libvulkan.so.1' || [ -e "$package_prefix/lib/libvulkan.1.dylib" ] ;;
    vulkan-loader-devel) package_links vulkan ;;
    vulkan-driver) package_vulkan_driver ;;
    validation) package_vulkan_layer VkLayer_khronos_validation.json ;;
    mingw) command -v x86_64-w64-mingw32-gcc >/dev/null ;;
    wine) command -v wine64 >/dev/null || command -v wine >/dev/null || [ -e /usr/lib/wine/wine64 ] ;;
    aarch64) command -v aarch64-linux-gnu-gcc >/dev/null ;;
    aarch64-libraries) package_arm64 ;;
    qemu-aarch64) package_qemu_aarch64 >/dev/null ;;
    python-torch) package_python >/dev/null ;;
    *) echo "packages: no need is called '$1'" >&2; return 1 ;;
    esac
}

package_command() { # the first word is one
    command -v "$1" >/dev/null
}

# Whether the compiler finds a header, after those named before it.
package_header() {
    for package_name in "$@"; do echo "#include <$package_name>"; done |
        ${CC:-cc} ${package_prefix:+"-I$package_prefix/include"} -E -x c - >/dev/null 2>&1
}

package_links() {
    echo 'int main(void) { return 0; }' |
        ${CC:-cc} ${package_prefix:+"-L$package_prefix/lib"} -x c - -o /dev/null "-l$1" >/dev/null 2>&1
}

package_library() {
    { ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null; } | grep -q "$1"
}

# Any driver will do: Mesa's package always brings lavapipe, which needs no GPU.
package_vulkan_driver() {
    [ -n "${VK_ICD_FILENAMES:-}${VK_DRIVER_FILES:-}" ] && return 0
    for package_folder in /usr/share /etc /usr/local/share /usr/local/etc "$package_prefix/share" "$package_prefix/etc"; do
        for package_file in "$package_folder"/vulkan/icd.d/*.json; do
            [ -e "$package_file" ] && return 0
        done
    done
    return 1
}

package_vulkan_layer() {
    for package_folder in /usr/share /etc /usr/local/share "$package_prefix/share" \
        ${VK_LAYER_PATH:+"$VK_LAYER_PATH"}; do
        if [ -e "$package_folder/vulkan/explicit_layer.d/$1" ] || [ -e "$package_folder/$1" ]; then return 0; fi
    done
    return 1
}

# The libraries of the tests and the command, and lavapipe, for 64-bit Arm beside this machine's own.
package_arm64() {
    for package_file in libjansson.so libcmocka.so libpng.so libjpeg.so libvulkan.so.1 libvulkan_lvp.so; do
        [ -e "/usr/lib/aarch64-linux-gnu/$package_file" ] || return 1
    done
}

# Prints the program that runs programs of 64-bit Arm Linux.
package_qemu_aarch64() {
    command -v qemu-aarch64-static || command -v qemu-aarch64
}

# Prints a Python that has PyTorch, NumPy and Pillow.
package_python() {
    for package_name in "${PYTHON:-python3}" /usr/bin/python3; do
        if "$package_name" -c 'import numpy, torch, PIL.Image' >/dev/null 2>&1; then
            echo "$package_name"
            return 0
        fi
    done
    return 1
}

# package_names MANAGER NEED: what the manager calls it; nothing when it has no such package.
package_names() {
    case $1:$2 in
    apt:cc) echo gcc libc6-dev ;;
    *:cc) echo gcc ;;
    apt:c++) echo g++ ;;
    dnf:c++) echo gcc-c++ ;;
    *:c++) echo gcc ;;
    *:make | *:cmake) echo "$2" ;;
    apt:cmp | dnf:cmp | pacman:cmp) echo diffutils ;;
    apt:shellcheck | pacman:shellcheck | brew:shellcheck) echo shellcheck ;;
    dnf:shellcheck) echo ShellCheck ;;
    dnf:clang-format) echo clang-tools-extra ;;
    pacman:clang-format) echo clang ;;
    *:clang-format) echo clang-format ;;
    *:clang) echo clang ;;
    apt:pkg-config | brew:pkg-config) echo pkg-config ;;
    dnf:pkg-config | pacman:pkg-config) echo pkgconf ;;
    apt:glslang) echo glslang-tools ;;
    *:glslang) echo glslang ;;
    *:spirv-val) echo spirv-tools ;;
    apt:vulkan-headers | apt:vulkan-loader-devel) echo libvulkan-dev ;;
    *:vulkan-headers) echo vulkan-headers ;;
    dnf:vulkan-loader-devel) echo vulkan-loader-devel ;;
    pacman:vulkan-loader-devel) echo vulkan-icd-loader ;;
    brew:vulkan-loader-devel) echo vulkan-loader ;;
    apt:volk) echo libvulkan-volk-dev ;;
    dnf:volk) echo vulkan-volk-devel vulkan-volk-static ;;
    pacman:volk) echo volk ;;
    brew:volk) echo vulkan-volk ;;
    apt:vulkan-loader) echo libvulkan1 ;;
    dnf:vulkan-loader | brew:vulkan-loader) echo vulkan-loader ;;
    pacman:vulkan-loader) echo vulkan-icd-loader ;;
    apt:vulkan-driver | dnf:vulkan-driver) echo mesa-vulkan-drivers ;;
    pacman:vulkan-driver) echo vulkan-swrast ;;
    brew:vulkan-driver) echo molten-vk ;;
    apt:validation) echo vulkan-validationlayers ;;
    dnf:validation | pacman:validation | brew:validation) echo vulkan-validation-layers ;;
    apt:jansson) echo libjansson-dev ;;
    apt:png) echo libpng-dev ;;
    apt:jpeg) echo libjpeg-dev ;;
    apt:cmocka) echo libcmocka-dev ;;
    dnf:jansson) echo jansson-devel ;;
    dnf:png) echo libpng-devel ;;
    dnf:jpeg) echo libjpeg-turbo-devel ;;
    dnf:cmocka) echo libcmocka-devel ;;
    *:png) echo libpng ;;
    brew:jpeg) echo jpeg-turbo ;;
    *:jpeg) echo libjpeg-turbo ;;
    *:jansson) echo jansson ;;
    *:cmocka) echo cmocka ;;
    apt:mingw) echo gcc-mingw-w64-x86-64 ;;
    dnf:mingw) echo mingw64-gcc ;;
    pacman:mingw) echo mingw-w64-gcc ;;
    apt:wine) echo wine64 ;;
    dnf:wine | pacman:wine) echo wine ;;
    apt:aarch64) echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;;
    apt:aarch64-libraries)
        echo libjansson-dev:arm64 libcmocka-dev:arm64 libpng-dev:arm64 libjpeg-dev:arm64 libvulkan1:arm64 \
            mesa-vulkan-drivers:arm64 ;;
    apt:qemu-aarch64) echo qemu-user-static ;;
    apt:python-torch) echo python3-torch python3-numpy python3-pil ;;
    dnf:python-torch) echo python3-torch python3-numpy python3-pillow ;;
    pacman:python-torch) echo python-pytorch python-numpy python-pillow ;;
    brew:python-torch) echo pytorch numpy pillow ;;
    esac
}

package_manager() {
    for package_name in apt-get dnf pacman brew; do
        if command -v "$package_name" >/dev/null; then
            echo "${package_name%-get}"
            return 0
        fi
    done
    return 1
}

# package_install MANAGER NAME...
package_install() {
    package_by=$1
    shift
    package_root=
    if [ "$package_by" != brew ] && [ "$(id -u)" != 0 ]; then
        package_root=sudo
        command -v sudo >/dev/null || { echo "packages: neither root nor sudo" >&2; return 1; }
    fi
    case $package_by in
    apt) # another process's apt is waited for, up to ten minutes
        $package_root apt-get -o DPkg::Lock::Timeout=600 update -qq &&
            $package_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq \
                --no-install-recommends "$@" ;;
    dnf) $package_root dnf install -y -q "$@" ;;
    pacman) $package_root pacman -Sy --needed --noconfirm "$@" ;;
    brew) brew install -q "$@" ;;
    esac </dev/null
}

packages() {
    package_missing=
    for package_need in "$@"; do
        package_there "$package_need" || package_missing="$package_missing $package_need"
    done
    [ -z "$package_missing" ] && return 0
    package_by=$(package_manager) || {
        echo "packages: missing:$package_missing; none of apt, dnf, pacman and brew is here to install them" >&2
        return 1
    }
    package_list=
    for package_need in $package_missing; do
        package_list="$package_list $(package_names "$package_by" "$package_need")"
    done
    echo "Installing with $package_by:$package_list" >&2
    # shellcheck disable=SC2086 # a list of words
    package_output=$(package_install "$package_by" $package_list 2>&1) ||
        { printf '%s\n' "$package_output" | tail -n 20; echo "packages: $package_by failed"; } >&2
    package_left=
    for package_need in $package_missing; do
        package_there "$package_need" || package_left="$package_left $package_need"
    done
    [ -z "$package_left" ] && return 0
    echo "packages: still missing:$package_left" >&2
    return 1
}
