// SPDX-License-Identifier: MIT
//
// The few thread primitives the engine and the command use, over POSIX threads or Win32.
#ifndef HYMN_BASE_THREAD_H
#define HYMN_BASE_THREAD_H

#include <stdbool.h>
#include <stdint.h>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
typedef SRWLOCK hymn_mutex;
typedef CONDITION_VARIABLE hymn_condition;
typedef HANDLE hymn_thread;
#define HYMN_MUTEX_INITIALIZER SRWLOCK_INIT
#else
#include <pthread.h>
typedef pthread_mutex_t hymn_mutex;
typedef pthread_cond_t hymn_condition;
typedef pthread_t hymn_thread;
#define HYMN_MUTEX_INITIALIZER PTHREAD_MUTEX_INITIALIZER
#endif

#define HYMN_THREAD_MOST 16u

void hymn_mutex_init(hymn_mutex *mutex);
void hymn_mutex_destroy(hymn_mutex *mutex);
void hymn_mutex_lock(hymn_mutex *mutex);
void hymn_mutex_unlock(hymn_mutex *mutex);
void hymn_condition_init(hymn_condition *condition);
void hymn_condition_destroy(hymn_condition *condition);
void hymn_condition_wait(hymn_condition *condition, hymn_mutex *mutex);
void hymn_condition_signal(hymn_condition *condition);
void hymn_condition_broadcast(hymn_condition *condition);
bool hymn_thread_start(hymn_thread *out_thread, void (*entry)(void *), void *argument); // false: could not be made
void hymn_thread_join(hymn_thread thread);
// Calls item(argument, i) for each i below `count`, in any order, and returns when all calls have: on at most `threads`
// threads of its own and no more than HYMN_THREAD_MOST, one a processor; where none can be made, on the caller's.
void hymn_thread_each(uint32_t threads, uint32_t count, void (*item)(void *argument, uint32_t i), void *argument);
uint32_t hymn_thread_cpu_count(void); // at least 1
double hymn_time_now(void);           // monotonic seconds

#endif
