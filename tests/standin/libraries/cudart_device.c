/* libcudart: the card, its properties, versions, and errors.
 *
 * SI_CC=86        compute capability, 8.6
 * SI_MEM=16       memory of the card in GiB (cudart_memory.c)
 * SI_GETCOUNT=100 status with which the runtime answers that there is no card
 * SI_LOSTFILE=F   a card whose UUID stands in this file is lost; it is looked at all the time
 * SI_STICKY=700   status of every call from launch number SI_STICKY_FROM (1) on: an error that kills the context
 * SI_DRIVER=13000 the newest CUDA that the driver can serve */
#include "cudart.h"

/* Where the fields of cudaDeviceProp are, in bytes, in CUDA 13. */
enum {
    TOTAL_MEMORY = 288,
    SHARED_MEMORY_PER_BLOCK = 296,
    REGISTERS_PER_BLOCK = 304,
    WARP_SIZE = 308,
    THREADS_PER_BLOCK = 320,
    THREADS_BY_DIMENSION = 324,
    GRID_BY_DIMENSION = 336,
    MAJOR = 360,
    MINOR = 364,
    PROCESSORS = 384,
    L2_CACHE = 596,
    THREADS_PER_PROCESSOR = 604,
    SHARED_MEMORY_PER_PROCESSOR = 624,
    REGISTERS_PER_PROCESSOR = 632,
    SHARED_MEMORY_OPT_IN = 672,
    HAS_POOLS = 720,
    PROPERTIES_SIZE = 1008,
};

size_t total_memory(void);
long launches_so_far(void);

static __thread int last_error;
static int stuck;

static int major(void) { return (int)fault("SI_CC", 86) / 10; }
static int minor(void) { return (int)fault("SI_CC", 86) % 10; }

static int is_lost(void) {
    const char *path = getenv("SI_LOSTFILE"), *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (!path || !visible || !*visible || access(path, R_OK)) return 0;
    char lost[4096];
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    lost[fread(lost, 1, sizeof lost - 1, file)] = 0;
    fclose(file);
    return strstr(lost, visible) != NULL;
}

int failed(int status) {
    if (status) last_error = status;
    return status;
}

/* A card that falls off the bus fails what runs on it; a process that starts then finds none. */
int broken(void) {
    if (stuck) return failed(stuck);
    if (!is_lost()) return 0;
    return failed(launches_so_far() ? LAUNCH_FAILED : NO_DEVICE);
}

void break_card(int status) { stuck = status; }

static int absent(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    return is_lost() || (visible && !*visible) ? NO_DEVICE : (int)fault("SI_GETCOUNT", 0);
}

int cudaGetDeviceCount(int *count) {
    *count = absent() ? 0 : 1;
    return failed(absent());
}

int cudaGetDevice(int *device) {
    *device = 0;
    return failed(absent());
}

int cudaSetDevice(int device) { return failed(absent()); }

int cudaGetDeviceProperties(char *properties, int device) {
#define FIELD(offset, type, value) *(type *)(properties + (offset)) = (value)
    memset(properties, 0, PROPERTIES_SIZE);
    strcpy(properties, "stand-in");
    FIELD(TOTAL_MEMORY, size_t, total_memory());
    FIELD(SHARED_MEMORY_PER_BLOCK, size_t, 49152);
    FIELD(REGISTERS_PER_BLOCK, int, 65536);
    FIELD(WARP_SIZE, int, 32);
    FIELD(THREADS_PER_BLOCK, int, 1024);
    FIELD(THREADS_BY_DIMENSION, int, 1024);
    FIELD(THREADS_BY_DIMENSION + 4, int, 1024);
    FIELD(THREADS_BY_DIMENSION + 8, int, 64);
    FIELD(GRID_BY_DIMENSION, int, 2147483647);
    FIELD(GRID_BY_DIMENSION + 4, int, 65535);
    FIELD(GRID_BY_DIMENSION + 8, int, 65535);
    FIELD(MAJOR, int, major());
    FIELD(MINOR, int, minor());
    FIELD(PROCESSORS, int, 40);
    FIELD(L2_CACHE, int, 4 << 20);
    FIELD(THREADS_PER_PROCESSOR, int, 1536);
    FIELD(SHARED_MEMORY_PER_PROCESSOR, size_t, 102400);
    FIELD(REGISTERS_PER_PROCESSOR, int, 65536);
    FIELD(SHARED_MEMORY_OPT_IN, size_t, 101376);
    FIELD(HAS_POOLS, int, 1);
    return failed(absent());
}

/* The numbers are those of cudaDeviceAttr. */
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 1: *value = 1024; break;    /* threads per block */
    case 8: *value = 49152; break;   /* shared memory per block */
    case 10: *value = 32; break;     /* warp */
    case 16: *value = 40; break;     /* processors */
    case 39: *value = 1536; break;   /* threads per processor */
    case 75: *value = major(); break;
    case 76: *value = minor(); break;
    case 81: *value = 102400; break; /* shared memory per processor */
    case 97: *value = 101376; break; /* shared memory per block, on request */
    default: *value = 1;
    }
    return failed(absent());
}

int cudaDriverGetVersion(int *version) {
    *version = (int)fault("SI_DRIVER", 13000);
    return 0;
}

int cudaRuntimeGetVersion(int *version) {
    *version = 13000;
    return 0;
}

int cudaDeviceSynchronize(void) { return broken(); }

int cudaGetLastError(void) {
    int status = stuck ? stuck : last_error;
    last_error = 0;
    return status;
}

int cudaPeekAtLastError(void) { return stuck ? stuck : last_error; }

static const struct { int status; const char *name, *words; } ERRORS[] = {
    {0, "cudaSuccess", "no error"},
    {2, "cudaErrorMemoryAllocation", "out of memory"},
    {35, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
    {46, "cudaErrorDevicesUnavailable", "CUDA-capable device(s) is/are busy or unavailable"},
    {100, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {101, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {209, "cudaErrorNoKernelImageForDevice", "no kernel image is available for execution on the device"},
    {222, "cudaErrorUnsupportedPtxVersion", "the provided PTX was compiled with an unsupported toolchain."},
    {700, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {712, "cudaErrorHostMemoryAlreadyRegistered", "part or all of the requested memory range is already mapped"},
    {713, "cudaErrorHostMemoryNotRegistered", "pointer does not correspond to a registered memory region"},
    {719, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {802, "cudaErrorSystemNotReady", "system not yet initialized"},
    {803, "cudaErrorSystemDriverMismatch", "system has unsupported display driver / cuda driver combination"},
    {999, "cudaErrorUnknown", "unknown error"},
};

#define LOOK_UP(field, otherwise)                              \
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++) \
        if (ERRORS[i].status == status) return ERRORS[i].field; \
    return otherwise

const char *cudaGetErrorName(int status) { LOOK_UP(name, "cudaErrorStandIn"); }
const char *cudaGetErrorString(int status) { LOOK_UP(words, "an error of the stand-in"); }
