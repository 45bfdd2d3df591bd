/* What the parts of the CUDA runtime's stand-in know of each other. */
#ifndef STANDIN_CUDART_H
#define STANDIN_CUDART_H

#include "standin.h"

enum {
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    NO_CODE = 209,
    ALREADY_REGISTERED = 712,
    NOT_REGISTERED = 713,
    LAUNCH_FAILED = 719,
};

/* The status of a card that is lost or was broken by a launch, with which every call fails; else 0. */
int broken(void);

/* Keeps a status as the last error of this thread, as the runtime does, and returns it. */
int failed(int status);

/* Counts a launch of a kernel, breaks the card where SI_STICKY says so, and returns the status of the launch. */
int launched(void);

/* Whether these bytes of the host are page-locked. */
int is_locked(const void *address, size_t size);

#endif
