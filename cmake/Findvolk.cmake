# SPDX-License-Identifier: MIT
#
# volk.h with volk.c beside it, and the Vulkan headers, as target volk::headers; nothing is linked.
find_path(VOLK_INCLUDE_DIR NAMES volk.h PATH_SUFFIXES volk)
find_path(VULKAN_INCLUDE_DIR NAMES vulkan/vulkan.h)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(volk REQUIRED_VARS VOLK_INCLUDE_DIR VULKAN_INCLUDE_DIR)
if(volk_FOUND AND NOT TARGET volk::headers)
    add_library(volk::headers INTERFACE IMPORTED)
    set_target_properties(volk::headers PROPERTIES
                          INTERFACE_INCLUDE_DIRECTORIES "${VOLK_INCLUDE_DIR};${VULKAN_INCLUDE_DIR}")
endif()
mark_as_advanced(VOLK_INCLUDE_DIR VULKAN_INCLUDE_DIR)
