# SPDX-License-Identifier: MIT
#
# hymn_warnings(TARGET): the warnings that our own code is kept free of; errors with HYMN_WERROR.
function(hymn_warnings target)
    if(MSVC)
        target_compile_options(${target} PRIVATE /W4 $<$<BOOL:${HYMN_WERROR}>:/WX>)
        return()
    endif()
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wpointer-arith -Wformat=2 -Wundef
                           -Wwrite-strings -Wstrict-prototypes -Wmissing-prototypes
                           $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation> # snprintf that cuts is meant to
                           $<$<BOOL:${HYMN_WERROR}>:-Werror>)
endfunction()
