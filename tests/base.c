// SPDX-License-Identifier: MIT
//
// Log, memory, threads and half floats; files are in base_file.c.
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE // pthread_setattr_default_np
#endif

#include "base/alloc.h"
#include "base/half.h"
#include "base/log.h"
#include "base/thread.h"
#include "test_random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "test_log.h"

// ---- log

static void log_levels_are_filtered(void **state) {
    (void)state;
    struct test_log kept;
    struct hymn_log log = test_log_start(&kept);
    log.level = HYMN_LOG_WARNING;
    hymn_log_write(&log, HYMN_LOG_ERROR, "error %d", 1);
    hymn_log_write(&log, HYMN_LOG_WARNING, "warning");
    hymn_log_write(&log, HYMN_LOG_INFO, "info");
    assert_string_equal(kept.text, "error 1\nwarning\n");
    hymn_log_write(NULL, HYMN_LOG_ERROR, "nowhere");
    hymn_log_write(&(struct hymn_log){.level = HYMN_LOG_DEBUG}, HYMN_LOG_ERROR, "nowhere");
    assert_int_equal(hymn_fail(&log, HYMN_STATUS_IO, "%s: gone", "a file"), HYMN_STATUS_IO);
    assert_log(&kept, "a file: gone");
    assert_int_equal(hymn_fail(NULL, HYMN_STATUS_BUSY, "busy"), HYMN_STATUS_BUSY);
}

static void log_lines_are_printable(void **state) {
    (void)state;
    static const struct {
        const char *given, *kept;
    } cases[] = {
        {"plain text", "plain text\n"},
        {"a\nb\tc\x1b[2J\x7f", "a?b?c?[2J?\n"},
        {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\n"}, // é€😀
        {"\xC2\x9B"
         "31m",
         "??31m\n"},                    // a C1 control
        {"\xC0\x80", "??\n"},           // overlong
        {"\xE0\x80\x80", "???\n"},      // overlong
        {"\xF0\x80\x80\x80", "????\n"}, // overlong
        {"\xED\xA0\x80", "???\n"},      // a surrogate
        {"\xF4\x90\x80\x80", "????\n"}, // past U+10FFFF
        {"\xFF\xFE", "??\n"},           // no lead byte
        {"x\xE2\x82", "x??\n"},         // cut short
        {"\x80z", "?z\n"},              // a lone continuation
        {"\xC2\xA0\xEF\xBF\xBD", "\xC2\xA0\xEF\xBF\xBD\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct test_log kept;
        struct hymn_log log = test_log_start(&kept);
        hymn_log_write(&log, HYMN_LOG_ERROR, "%s", cases[i].given);
        assert_string_equal(kept.text, cases[i].kept);
    }
}

static void long_lines_are_cut(void **state) {
    (void)state;
    struct test_log kept;
    struct hymn_log log = test_log_start(&kept);
    char text[2000];
    memset(text, 'a', sizeof text);
    text[1023] = '\0';
    hymn_log_write(&log, HYMN_LOG_ERROR, "%s", text);
    assert_int_equal(kept.length, 1024); // fits: 1023 and the newline
    text[1023] = 'a';
    text[1024] = '\0';
    log = test_log_start(&kept);
    hymn_log_write(&log, HYMN_LOG_ERROR, "%s", text);
    assert_int_equal(kept.length, 1024);
    assert_string_equal(kept.text + 1020, "...\n");
}

static void text_is_cut_between_characters(void **state) {
    (void)state;
    char out[8];
    assert_string_equal(hymn_text_cut("seven..", out, sizeof out), "seven..");
    assert_string_equal(hymn_text_cut("eight...", out, sizeof out), "eigh...");
    assert_string_equal(hymn_text_cut("abc\xC3\xA9xyz", out, sizeof out), "abc...");
    assert_string_equal(hymn_text_cut("ab\xC3\xA9wxyz", out, sizeof out), "ab\xC3\xA9...");
    assert_string_equal(hymn_text_cut("\x80\x80\x80\x80\x80\x80\x80\x80", out, sizeof out), "...");
    char same[] = "in place, in place";
    assert_string_equal(hymn_text_cut(same, same, 10), "in pla...");
    assert_string_equal(hymn_text_cut("", out, sizeof out), "");
}

// ---- memory

static void sizes_that_overflow_fail(void **state) {
    (void)state;
    struct hymn_arena arena = {0};
    assert_null(hymn_alloc(SIZE_MAX, 2));
    assert_null(hymn_alloc(SIZE_MAX / 2 + 1, 2));
    assert_null(hymn_realloc(NULL, SIZE_MAX / 3, 4));
    assert_null(hymn_arena_alloc(&arena, SIZE_MAX / 2, 3));
    assert_null(hymn_arena_alloc(&arena, SIZE_MAX, 1));
    assert_null(hymn_arena_alloc(&arena, SIZE_MAX - 20, 1));
    hymn_arena_free(&arena);
}

static void blocks_are_zeroed_and_never_null(void **state) {
    (void)state;
    uint8_t *block = hymn_alloc(1000, 3), *none = hymn_alloc(0, 8), *more = hymn_alloc(8, 0);
    assert_true(block && none && more);
    for (size_t i = 0; i < 3000; i++) {
        assert_int_equal(block[i], 0);
        block[i] = (uint8_t)i;
    }
    block = hymn_realloc(block, 10000, 1);
    assert_non_null(block);
    for (size_t i = 0; i < 3000; i++) {
        assert_int_equal(block[i], (uint8_t)i);
    }
    block = hymn_realloc(block, 0, 1);
    assert_non_null(block);
    hymn_free(block);
    hymn_free(none);
    hymn_free(more);
    hymn_free(NULL);
    char *copy = hymn_strdup("copy");
    assert_string_equal(copy, "copy");
    hymn_free(copy);
}

static void the_chosen_allocation_fails_once(void **state) {
    (void)state;
    hymn_alloc_fail_after(2);
    void *first = hymn_alloc(1, 1);
    char *second = hymn_strdup("second");
    void *third = hymn_realloc(NULL, 1, 1);
    void *fourth = hymn_alloc(1, 1);
    hymn_alloc_fail_after(-1);
    assert_true(first && second && fourth);
    assert_null(third);
    hymn_free(first);
    hymn_free(second);
    hymn_free(fourth);
    struct hymn_arena arena = {0};
    hymn_alloc_fail_after(0);
    assert_null(hymn_arena_alloc(&arena, 1, 1));
    hymn_alloc_fail_after(0);
    assert_null(hymn_arena_printf(&arena, "%d", 1));
    hymn_alloc_fail_after(-1);
    assert_non_null(hymn_arena_printf(&arena, "%d", 1));
    hymn_arena_free(&arena);
}

static void arena_blocks_do_not_overlap(void **state) {
    (void)state;
    struct test_random random = test_random_start("arena_blocks_do_not_overlap");
    struct hymn_arena arena = {0};
    for (int round = 0; round < 2; round++) {
        uint8_t *blocks[300];
        size_t sizes[300];
        for (size_t i = 0; i < 300; i++) {
            sizes[i] = test_random_range(&random, 0, i % 20 == 0 ? 200000 : 600);
            blocks[i] = hymn_arena_alloc(&arena, sizes[i], 1);
            assert_non_null(blocks[i]);
            assert_int_equal((uintptr_t)blocks[i] % 16, 0);
            for (size_t j = 0; j < sizes[i]; j++) {
                assert_int_equal(blocks[i][j], 0);
            }
            memset(blocks[i], (int)(i % 255 + 1), sizes[i]);
        }
        for (size_t i = 0; i < 300; i++) {
            for (size_t j = 0; j < sizes[i]; j++) {
                assert_int_equal(blocks[i][j], i % 255 + 1);
            }
        }
        hymn_arena_free(&arena);
        assert_null(arena.head);
    }
    assert_string_equal(hymn_arena_printf(&arena, "encoder.%d.%s", 3, "down"), "encoder.3.down");
    hymn_arena_free(&arena);
}

// ---- threads

struct counter {
    hymn_mutex mutex;
    hymn_condition condition;
    int count, limit;
    int owner; // whose turn it is
};

struct player {
    struct counter *counter;
    int number;
};

static void take_turns(void *argument) {
    struct player *player = argument;
    struct counter *counter = player->counter;
    hymn_mutex_lock(&counter->mutex);
    while (counter->count < counter->limit) {
        if (counter->owner == player->number) {
            counter->count++;
            counter->owner = (counter->owner + 1) % 3;
            hymn_condition_broadcast(&counter->condition);
        } else {
            hymn_condition_wait(&counter->condition, &counter->mutex);
        }
    }
    hymn_mutex_unlock(&counter->mutex);
}

static void threads_take_turns(void **state) {
    (void)state;
    struct counter counter = {.limit = 3000};
    hymn_mutex_init(&counter.mutex);
    hymn_condition_init(&counter.condition);
    struct player players[3];
    hymn_thread threads[3];
    for (int i = 0; i < 3; i++) {
        players[i] = (struct player){&counter, i};
        assert_true(hymn_thread_start(&threads[i], take_turns, &players[i]));
    }
    for (int i = 0; i < 3; i++) {
        hymn_thread_join(threads[i]);
    }
    assert_int_equal(counter.count, 3000);
    hymn_condition_destroy(&counter.condition);
    hymn_mutex_destroy(&counter.mutex);
}

static void set_flag(void *argument) {
    static hymn_mutex mutex = HYMN_MUTEX_INITIALIZER;
    struct counter *counter = argument;
    hymn_mutex_lock(&mutex);
    counter->count++;
    hymn_mutex_unlock(&mutex);
    hymn_mutex_lock(&counter->mutex);
    counter->owner = 1;
    hymn_condition_signal(&counter->condition);
    hymn_mutex_unlock(&counter->mutex);
}

static void a_signal_wakes_the_waiter(void **state) {
    (void)state;
    struct counter counter = {0};
    hymn_mutex_init(&counter.mutex);
    hymn_condition_init(&counter.condition);
    hymn_thread thread;
    hymn_alloc_fail_after(0);
    assert_false(hymn_thread_start(&thread, set_flag, &counter));
    assert_true(hymn_thread_start(&thread, set_flag, &counter));
    hymn_mutex_lock(&counter.mutex);
    while (!counter.owner) {
        hymn_condition_wait(&counter.condition, &counter.mutex);
    }
    hymn_mutex_unlock(&counter.mutex);
    hymn_thread_join(thread);
    assert_int_equal(counter.count, 1);
    hymn_condition_destroy(&counter.condition);
    hymn_mutex_destroy(&counter.mutex);
}

enum { ITEMS = 1000 };

struct items {
    _Atomic uint32_t calls[ITEMS + 1];
    _Atomic bool elsewhere; // some were on another thread than the caller's
    uintptr_t caller;
};

static uintptr_t this_thread(void) {
#ifdef _WIN32
    return GetCurrentThreadId();
#else
    return (uintptr_t)pthread_self();
#endif
}

static void do_item(void *argument, uint32_t i) {
    struct items *items = argument;
    atomic_fetch_add(&items->calls[i], 1);
    if (this_thread() != items->caller) {
        atomic_store(&items->elsewhere, true);
    }
}

static void each_item_is_done_once(void **state) {
    (void)state;
    static const struct {
        uint32_t threads, count;
        bool fails, elsewhere;
    } cases[] = {
        {2, ITEMS, false, true}, {1000000, ITEMS, false, true}, {8, 1, false, true},
        {3, 0, false, false},    {0, ITEMS, false, false},      {2, ITEMS, true, false},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        static struct items items;
        memset(&items, 0, sizeof items);
        items.caller = this_thread();
        hymn_alloc_fail_after(cases[k].fails ? 0 : -1); // the first thread's start
        hymn_thread_each(cases[k].threads, cases[k].count, do_item, &items);
        hymn_alloc_fail_after(-1);
        for (uint32_t i = 0; i <= ITEMS; i++) {
            assert_int_equal(items.calls[i], i < cases[k].count ? 1 : 0);
        }
        assert_int_equal(items.elsewhere, cases[k].elsewhere);
    }
}

// Writes to 2 MiB of stack, a piece at a time as deep calls do, and gives a number that depends on all of it.
static uint32_t dig(uint32_t depth) {
    volatile uint8_t piece[16384];
    for (size_t i = 0; i < sizeof piece; i += 512) {
        piece[i] = (uint8_t)depth;
    }
    uint32_t below = depth > 1 ? dig(depth - 1) : 0;
    return below + (piece[0] == (uint8_t)depth);
}

static void dig_deep(void *argument) {
    *(uint32_t *)argument = dig(128);
}

// Drivers compile shaders in them, by code that was written for the main thread's stack.
static void threads_have_room_for_a_compiler(void **state) {
    (void)state;
#if defined(__linux__) && defined(__GLIBC__)
    pthread_attr_t usual, small; // as other C libraries' threads are by default
    assert_int_equal(pthread_getattr_default_np(&usual), 0);
    assert_int_equal(pthread_attr_init(&small), 0);
    assert_int_equal(pthread_attr_setstacksize(&small, 131072), 0);
    assert_int_equal(pthread_setattr_default_np(&small), 0);
#endif
    hymn_thread thread;
    uint32_t depth = 0;
    assert_true(hymn_thread_start(&thread, dig_deep, &depth));
    hymn_thread_join(thread);
    assert_int_equal(depth, 128);
#if defined(__linux__) && defined(__GLIBC__)
    assert_int_equal(pthread_setattr_default_np(&usual), 0);
    pthread_attr_destroy(&small);
    pthread_attr_destroy(&usual);
#endif
}

static void the_clock_and_the_processors_are_there(void **state) {
    (void)state;
    double before = hymn_time_now();
    assert_true(hymn_thread_cpu_count() >= 1);
    double after = hymn_time_now();
    assert_true(after >= before && after - before < 60.0);
}

// ---- half floats

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static double half_value(uint16_t half) {
    int exponent = half >> 10 & 31, fraction = half & 1023;
    double magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return half & 0x8000 ? -magnitude : magnitude;
}

static bool half_is_nan(uint16_t half) {
    return (half & 0x7C00) == 0x7C00 && (half & 0x03FF);
}

// To the nearest half, ties to even, by double arithmetic.
static uint16_t reference_half(double value) {
    double magnitude = fabs(value);
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    int exponent = -14;
    if (magnitude >= ldexp(1, -14)) {
        frexp(magnitude, &exponent);
        exponent--;
    }
    double steps = nearbyint(ldexp(magnitude, 10 - exponent));
    double rounded = ldexp(steps, exponent - 10);
    if (rounded > 65504) {
        return sign | 0x7C00;
    }
    if (rounded < ldexp(1, -14)) {
        return (uint16_t)(sign | (int)ldexp(rounded, 24));
    }
    int rounded_exponent;
    frexp(rounded, &rounded_exponent);
    return (uint16_t)(sign | ((rounded_exponent + 14) << 10) | ((int)ldexp(rounded, 11 - rounded_exponent) & 1023));
}

static void every_half_survives_a_round_trip(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t half = (uint16_t)i;
        float value = hymn_half_to_float(half);
        if (half_is_nan(half)) {
            assert_true(isnan(value) && half_is_nan(hymn_half_from_float(value)));
            continue;
        }
        if ((half & 0x7FFF) == 0x7C00) {
            assert_true(isinf(value) && (value < 0) == (half >> 15));
        } else {
            assert_true((double)value == half_value(half) && !signbit(value) == !signbit(half_value(half)));
        }
        assert_int_equal(hymn_half_from_float(value), half);
    }
}

static void floats_round_to_the_nearest_half(void **state) {
    (void)state;
    struct test_random random = test_random_start("floats_round_to_the_nearest_half");
    for (uint32_t i = 0; i < 0x7C00; i++) { // just below, at and just above the middle of neighbours
        float middle = (float)((half_value((uint16_t)i) + half_value((uint16_t)(i + 1))) / 2);
        float around[3] = {nextafterf(middle, 0), middle, nextafterf(middle, 1e6f)};
        for (int j = 0; j < 3; j++) {
            assert_int_equal(hymn_half_from_float(around[j]), reference_half((double)around[j]));
            assert_int_equal(hymn_half_from_float(-around[j]), reference_half(-(double)around[j]));
        }
    }
    for (int i = 0; i < 1000000; i++) {
        uint32_t bits = (uint32_t)test_random_u64(&random);
        float value;
        memcpy(&value, &bits, sizeof value);
        uint16_t half = hymn_half_from_float(value);
        if (isnan(value)) {
            assert_true(half_is_nan(half));
        } else if (isinf(value)) {
            assert_int_equal(half, value < 0 ? 0xFC00 : 0x7C00);
        } else {
            assert_int_equal(half, reference_half((double)value));
        }
    }
}

static void the_limits_of_half_are_exact(void **state) {
    (void)state;
    assert_int_equal(hymn_half_from_float(65504.0f), 0x7BFF);
    assert_int_equal(hymn_half_from_float(65519.996f), 0x7BFF);
    assert_int_equal(hymn_half_from_float(65520.0f), 0x7C00);
    assert_int_equal(hymn_half_from_float(-1e30f), 0xFC00);
    assert_int_equal(hymn_half_from_float(0x1p-25f), 0x0000);
    assert_int_equal(hymn_half_from_float(0x1.000002p-25f), 0x0001);
    assert_int_equal(hymn_half_from_float(-0.0f), 0x8000);
    assert_int_equal(bits_of(hymn_bfloat_to_float(0x3F80)), 0x3F800000);
    assert_true(isnan(hymn_bfloat_to_float(0x7FC0)) && isinf(hymn_bfloat_to_float(0xFF80)));
    assert_int_equal(bits_of(hymn_bfloat_to_float(0x8001)), 0x80010000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_levels_are_filtered),
        cmocka_unit_test(log_lines_are_printable),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(text_is_cut_between_characters),
        cmocka_unit_test(sizes_that_overflow_fail),
        cmocka_unit_test(blocks_are_zeroed_and_never_null),
        cmocka_unit_test(the_chosen_allocation_fails_once),
        cmocka_unit_test(arena_blocks_do_not_overlap),
        cmocka_unit_test(threads_take_turns),
        cmocka_unit_test(a_signal_wakes_the_waiter),
        cmocka_unit_test(each_item_is_done_once),
        cmocka_unit_test(threads_have_room_for_a_compiler),
        cmocka_unit_test(the_clock_and_the_processors_are_there),
        cmocka_unit_test(every_half_survives_a_round_trip),
        cmocka_unit_test(floats_round_to_the_nearest_half),
        cmocka_unit_test(the_limits_of_half_are_exact),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
