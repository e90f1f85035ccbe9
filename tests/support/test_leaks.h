// SPDX-License-Identifier: MIT
//
// Keeps shared libraries loaded until the process ends when the address sanitizer is on, so that it can name the driver
// or layer that a leak belongs to (tests/leaks.supp). Without it, a driver that the loader has unloaded is an "unknown
// module" at exit. Include anywhere in a test program.
#ifndef HYMN_TESTS_SUPPORT_TEST_LEAKS_H
#define HYMN_TESTS_SUPPORT_TEST_LEAKS_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_LEAKS_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define TEST_LEAKS_ASAN
#endif

#ifdef TEST_LEAKS_ASAN
#include <dlfcn.h>

__attribute__((weak, visibility("default"))) int dlclose(void *handle) {
    (void)handle;
    return 0;
}
#endif

#endif
