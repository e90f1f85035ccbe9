// SPDX-License-Identifier: MIT
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE // sched_getaffinity
#endif

#include "base/thread.h"

#include <stdatomic.h>

#include "base/alloc.h"

// Drivers' compilers run in threads, and are used to a main thread's stack. musl gives threads 128 KiB, macOS 512 KiB.
#define STACK_BYTES (8u << 20)

struct start {
    void (*entry)(void *);
    void *argument;
};

static struct start take_start(void *block) {
    struct start start = *(struct start *)block;
    hymn_free(block);
    return start;
}

static struct start *make_start(void (*entry)(void *), void *argument) {
    struct start *start = hymn_alloc(1, sizeof *start);
    if (start) {
        *start = (struct start){entry, argument};
    }
    return start;
}

#ifdef _WIN32

#include <process.h>

void hymn_mutex_init(hymn_mutex *mutex) {
    InitializeSRWLock(mutex);
}

void hymn_mutex_destroy(hymn_mutex *mutex) {
    (void)mutex;
}

void hymn_mutex_lock(hymn_mutex *mutex) {
    AcquireSRWLockExclusive(mutex);
}

void hymn_mutex_unlock(hymn_mutex *mutex) {
    ReleaseSRWLockExclusive(mutex);
}

void hymn_condition_init(hymn_condition *condition) {
    InitializeConditionVariable(condition);
}

void hymn_condition_destroy(hymn_condition *condition) {
    (void)condition;
}

void hymn_condition_wait(hymn_condition *condition, hymn_mutex *mutex) {
    SleepConditionVariableSRW(condition, mutex, INFINITE, 0);
}

void hymn_condition_signal(hymn_condition *condition) {
    WakeConditionVariable(condition);
}

void hymn_condition_broadcast(hymn_condition *condition) {
    WakeAllConditionVariable(condition);
}

static unsigned __stdcall run(void *block) {
    struct start start = take_start(block);
    start.entry(start.argument);
    return 0;
}

bool hymn_thread_start(hymn_thread *out_thread, void (*entry)(void *), void *argument) {
    struct start *start = make_start(entry, argument);
    uintptr_t handle =
        start ? _beginthreadex(NULL, STACK_BYTES, run, start, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL) : 0;
    if (start && !handle) {
        handle = _beginthreadex(NULL, 0, run, start, 0, NULL);
    }
    if (!handle) {
        hymn_free(start);
        return false;
    }
    *out_thread = (HANDLE)handle;
    return true;
}

void hymn_thread_join(hymn_thread thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

uint32_t hymn_thread_cpu_count(void) {
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return info.dwNumberOfProcessors ? (uint32_t)info.dwNumberOfProcessors : 1;
}

double hymn_time_now(void) {
    LARGE_INTEGER ticks, frequency;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&frequency);
    return (double)ticks.QuadPart / (double)frequency.QuadPart;
}

#else

#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#endif

void hymn_mutex_init(hymn_mutex *mutex) {
    pthread_mutex_init(mutex, NULL);
}

void hymn_mutex_destroy(hymn_mutex *mutex) {
    pthread_mutex_destroy(mutex);
}

void hymn_mutex_lock(hymn_mutex *mutex) {
    pthread_mutex_lock(mutex);
}

void hymn_mutex_unlock(hymn_mutex *mutex) {
    pthread_mutex_unlock(mutex);
}

void hymn_condition_init(hymn_condition *condition) {
    pthread_cond_init(condition, NULL);
}

void hymn_condition_destroy(hymn_condition *condition) {
    pthread_cond_destroy(condition);
}

void hymn_condition_wait(hymn_condition *condition, hymn_mutex *mutex) {
    pthread_cond_wait(condition, mutex);
}

void hymn_condition_signal(hymn_condition *condition) {
    pthread_cond_signal(condition);
}

void hymn_condition_broadcast(hymn_condition *condition) {
    pthread_cond_broadcast(condition);
}

static void *run(void *block) {
    struct start start = take_start(block);
    start.entry(start.argument);
    return NULL;
}

// With the default stack where a large one is refused.
static bool create(hymn_thread *out_thread, struct start *start) {
    pthread_attr_t attributes;
    bool created = false;
    if (pthread_attr_init(&attributes) == 0) {
        created = pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0 &&
                  pthread_create(out_thread, &attributes, run, start) == 0;
        pthread_attr_destroy(&attributes);
    }
    return created || pthread_create(out_thread, NULL, run, start) == 0;
}

bool hymn_thread_start(hymn_thread *out_thread, void (*entry)(void *), void *argument) {
    struct start *start = make_start(entry, argument);
    if (!start || !create(out_thread, start)) {
        hymn_free(start);
        return false;
    }
    return true;
}

void hymn_thread_join(hymn_thread thread) {
    pthread_join(thread, NULL);
}

uint32_t hymn_thread_cpu_count(void) {
#ifdef __linux__
    cpu_set_t set; // containers and taskset give a process fewer processors than the machine has
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) {
        return (uint32_t)CPU_COUNT(&set);
    }
#endif
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (uint32_t)count : 1;
}

double hymn_time_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#endif

struct each {
    void (*item)(void *, uint32_t);
    void *argument;
    uint32_t count;
    _Atomic uint32_t next;
};

static void do_share(void *argument) {
    struct each *each = argument;
    for (uint32_t i = atomic_fetch_add(&each->next, 1); i < each->count; i = atomic_fetch_add(&each->next, 1)) {
        each->item(each->argument, i);
    }
}

// Where a thread cannot be made, the others do its share.
void hymn_thread_each(uint32_t threads, uint32_t count, void (*item)(void *argument, uint32_t i), void *argument) {
    struct each each = {.item = item, .argument = argument, .count = count};
    hymn_thread started[HYMN_THREAD_MOST];
    const uint32_t processors = hymn_thread_cpu_count();
    uint32_t made = 0, most = processors < HYMN_THREAD_MOST ? processors : HYMN_THREAD_MOST;
    most = threads < most ? threads : most;
    most = count < most ? count : most;
    while (made < most && hymn_thread_start(&started[made], do_share, &each)) {
        made++;
    }
    if (made == 0) {
        do_share(&each);
    }
    for (uint32_t i = 0; i < made; i++) {
        hymn_thread_join(started[i]);
    }
}
