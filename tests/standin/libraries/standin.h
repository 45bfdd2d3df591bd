/* What all stand-ins share: counters that `tests/standin/counts.py` reads, and faults that the environment asks for.
 *
 * A stand-in copies memory and computes nothing. Calls are synchronous: a stream is a number, and work on it is done when
 * the call returns. */
#ifndef STANDIN_H
#define STANDIN_H

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Defines a counter of this library; `counts.py` finds it by the name `standin_NAME`. */
#define COUNTER(name) long standin_##name
#define ADD(name, n) __atomic_fetch_add(&standin_##name, (long)(n), __ATOMIC_RELAXED)
#define READ(name) __atomic_load_n(&standin_##name, __ATOMIC_RELAXED)

/* The number in an environment variable such as SI_LAUNCH, read at each call so that a program may set it on its way. */
static inline double fault(const char *variable, double otherwise) {
    const char *value = getenv(variable);
    return value && *value ? atof(value) : otherwise;
}

/* A value for a handle, which nobody looks into. */
static inline void *new_handle(void) {
    static uintptr_t last = 0x1000;
    return (void *)__atomic_add_fetch(&last, 16, __ATOMIC_RELAXED);
}

#endif
