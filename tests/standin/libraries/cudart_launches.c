/* libcudart: kernels, streams, events and graphs.
 *
 * SI_LAUNCH=209   status of every launch: no code for this generation
 * SI_STICKY       see cudart_device.c */
#include "cudart.h"

COUNTER(launches);
COUNTER(streams);
COUNTER(graph_captures);
COUNTER(graph_launches);

void break_card(int status);

long launches_so_far(void) { return READ(launches); }

static __thread long own_launches;

/* Launches of other threads so far, cuDNN's included: a copy during which it grows went on beside computing. */
long launches_of_others(void) { return READ(launches) - own_launches; }

int launched(void) {
    own_launches++;
    long number = ADD(launches, 1) + 1;
    int sticky = (int)fault("SI_STICKY", 0);
    if (sticky && number >= (long)fault("SI_STICKY_FROM", 1)) break_card(sticky);
    if (broken()) return broken();
    return failed((int)fault("SI_LAUNCH", 0));
}

static __thread long own_convolutions;

/* Convolutions that this thread has run. */
long convolutions_here(void) { return own_convolutions; }

/* cuDNN runs a convolution: a launch, with the faults that launches have. */
int convolved(void) {
    own_convolutions++;
    return launched();
}

int cudaLaunchKernel() { return launched(); }
int __cudaLaunchKernel() { return launched(); }
int cudaLaunchKernelExC() { return launched(); }
int cudaLaunchCooperativeKernel() { return launched(); }

unsigned __cudaPushCallConfiguration() { return 0; }

int __cudaPopCallConfiguration(unsigned *grid, unsigned *block, size_t *shared, void **stream) {
    for (int i = 0; i < 3; i++) grid[i] = block[i] = 1;
    *shared = 0;
    *stream = NULL;
    return 0;
}

int __cudaGetKernel(void **kernel, const void *function) {
    *kernel = (void *)function;
    return 0;
}

void **__cudaRegisterFatBinary(void *binary) {
    static void *handle[4];
    return handle;
}

int cudaFuncGetAttributes(void *attributes, const void *function) {
    memset(attributes, 0, 128);
    return 0;
}

int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function, int size, size_t shared,
                                                           unsigned flags) {
    *blocks = 1;
    return 0;
}

int cudaStreamCreateWithFlags(void **stream, unsigned flags) {
    ADD(streams, 1);
    *stream = new_handle();
    return broken();
}

int cudaStreamCreate(void **stream) { return cudaStreamCreateWithFlags(stream, 0); }
int cudaStreamSynchronize(void *stream) { return broken(); }
int cudaStreamQuery(void *stream) { return broken(); }

int cudaEventCreateWithFlags(void **event, unsigned flags) {
    *event = new_handle();
    return 0;
}

int cudaEventCreate(void **event) { return cudaEventCreateWithFlags(event, 0); }
int cudaEventSynchronize(void *event) { return broken(); }

int cudaEventElapsedTime(float *ms, void *start, void *end) {
    *ms = 1;
    return 0;
}

int cudaStreamIsCapturing(void *stream, int *status) {
    *status = 0;
    return 0;
}

int cudaStreamEndCapture(void *stream, void **graph) {
    ADD(graph_captures, 1);
    *graph = new_handle();
    return broken();
}

int cudaGraphInstantiate(void **executable, void *graph, unsigned long long flags) {
    *executable = new_handle();
    return broken();
}

int cudaGraphLaunch(void *executable, void *stream) {
    ADD(graph_launches, 1);
    return launched();
}

int cudaMemPoolCreate(void **pool, const void *properties) {
    *pool = new_handle();
    return 0;
}

int cudaMemPoolGetAttribute(void *pool, int attribute, void *value) {
    memset(value, 0, 8);
    return 0;
}

int cudaLibraryLoadData(void **library) {
    *library = new_handle();
    return 0;
}

int cudaLibraryGetKernel(void **kernel, void *library, const char *name) {
    *kernel = new_handle();
    return 0;
}

int cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, unsigned long long flags,
                                     int *status) {
    *function = NULL;
    if (status) *status = 1;
    return 0;
}
