# SPDX-License-Identifier: MIT
#
# hymn_static_library(NAME OBJECTS): a static library that exports nothing but the public functions.
#
# volk defines global variables called vkCreateInstance and so on; a program that links libvulkan as well would bind its
# own calls to them and crash. Where the toolchain can do it, the objects are therefore linked into one relocatable
# object whose hidden symbols are made local, for which they must be machine code: what is left to link-time optimization
# has no symbols that objcopy could change. Elsewhere (MSVC, Apple's linker) the archive holds the plain objects: such a
# program must then use the shared library.
function(hymn_static_library name objects)
    if(CMAKE_OBJCOPY AND NOT APPLE AND NOT WIN32 AND CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")
        set(merged "${CMAKE_CURRENT_BINARY_DIR}/${name}.o")
        separate_arguments(compiler NATIVE_COMMAND "${CMAKE_C_COMPILER_ARG1}") # of CC="ccache gcc"
        list(PREPEND compiler "${CMAKE_C_COMPILER}")
        # What says for which machine: -m32, a target, a sysroot. Without the flags that bring libraries of their own, and
        # those for the linking of programs.
        separate_arguments(flags NATIVE_COMMAND "${CMAKE_C_FLAGS}")
        list(FILTER flags EXCLUDE REGEX "^-(fsanitize|fprofile|-?coverage|Wl,|static-pie$)")
        string(REGEX MATCHALL "-fuse-ld=[^ ]+" linker "${CMAKE_SHARED_LINKER_FLAGS}")
        list(APPEND compiler ${flags} ${linker} -fno-lto)
        foreach(part TARGET EXTERNAL_TOOLCHAIN)
            if(CMAKE_C_COMPILER_${part} AND CMAKE_C_COMPILE_OPTIONS_${part})
                list(APPEND compiler "${CMAKE_C_COMPILE_OPTIONS_${part}}${CMAKE_C_COMPILER_${part}}")
            endif()
        endforeach()
        if(CMAKE_SYSROOT)
            list(APPEND compiler "--sysroot=${CMAKE_SYSROOT}")
        endif()
        target_compile_options(${objects} PRIVATE -fno-lto)
        set_target_properties(${objects} PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF)
        add_custom_command(
            OUTPUT "${merged}"
            COMMAND ${compiler} -r -nostdlib -o "${merged}" "$<TARGET_OBJECTS:${objects}>"
            COMMAND "${CMAKE_OBJCOPY}" --localize-hidden "${merged}"
            DEPENDS ${objects} "$<TARGET_OBJECTS:${objects}>"
            COMMENT "Merging the objects of ${name}" COMMAND_EXPAND_LISTS VERBATIM)
        add_library(${name} STATIC "${merged}")
    else()
        add_library(${name} STATIC $<TARGET_OBJECTS:${objects}>)
    endif()
    set_target_properties(${name} PROPERTIES LINKER_LANGUAGE C ARCHIVE_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
    if(NOT MSVC) # where the shared library's import library would be hymn.lib too
        set_target_properties(${name} PROPERTIES OUTPUT_NAME hymn)
    endif()
endfunction()
