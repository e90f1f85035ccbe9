# SPDX-License-Identifier: MIT
include(CMakePackageConfigHelpers)
set(hymn_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/hymn")

# The licence asks to go with every copy. Where hymn is part of another project, CMAKE_INSTALL_DOCDIR is that one's.
if(hymn_alone)
    install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}")
else()
    install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/doc/hymn")
endif()
install(DIRECTORY include/hymn DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.h")
install(TARGETS hymn EXPORT hymnTargets
        RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}"
        LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
        ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
# By itself, for it needs jansson's development files where it is used.
install(TARGETS hymn_static EXPORT hymnStaticTargets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
if(TARGET hymn_command)
    install(TARGETS hymn_command RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
    install(FILES apps/hymn/hymn.1 DESTINATION "${CMAKE_INSTALL_MANDIR}/man1" OPTIONAL)
endif()

install(EXPORT hymnTargets NAMESPACE hymn:: DESTINATION "${hymn_cmake_dir}")
install(EXPORT hymnStaticTargets NAMESPACE hymn:: DESTINATION "${hymn_cmake_dir}")
configure_package_config_file(cmake/hymnConfig.cmake.in "${PROJECT_BINARY_DIR}/hymnConfig.cmake"
                              INSTALL_DESTINATION "${hymn_cmake_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/hymnConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/hymnConfig.cmake" "${PROJECT_BINARY_DIR}/hymnConfigVersion.cmake"
              cmake/Findjansson.cmake DESTINATION "${hymn_cmake_dir}")

# Found from where the file lies, so that the installed tree can be moved, but for folders that are given as a whole.
set(hymn_pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
set(hymn_pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
    set(hymn_pc_prefix "${CMAKE_INSTALL_PREFIX}")
    set(hymn_pc_libdir "${CMAKE_INSTALL_LIBDIR}")
else()
    file(RELATIVE_PATH hymn_pc_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
    string(REGEX REPLACE "/$" "" hymn_pc_prefix "${hymn_pc_prefix}")
    string(PREPEND hymn_pc_prefix "\${pcfiledir}/")
endif()
if(IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
    set(hymn_pc_includedir "${CMAKE_INSTALL_INCLUDEDIR}")
endif()
# In full, not as "Requires.private: jansson": pkg-config would ask for jansson.pc where the shared library is used too.
set(hymn_libs_private "-ljansson -lm ${CMAKE_THREAD_LIBS_INIT}")
if(JANSSON_LIBRARY)
    get_filename_component(jansson_dir "${JANSSON_LIBRARY}" DIRECTORY)
    if(NOT jansson_dir IN_LIST CMAKE_C_IMPLICIT_LINK_DIRECTORIES)
        string(REPLACE " " "\\ " jansson_dir "${jansson_dir}")
        string(PREPEND hymn_libs_private "-L${jansson_dir} ")
    endif()
endif()
foreach(library IN LISTS CMAKE_DL_LIBS)
    string(APPEND hymn_libs_private " -l${library}")
endforeach()
configure_file(cmake/hymn.pc.in "${PROJECT_BINARY_DIR}/hymn.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/hymn.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
