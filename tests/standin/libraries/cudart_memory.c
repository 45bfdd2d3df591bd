/* libcudart: memory of the card, which is memory of the host here, and page-locks.
 *
 * SI_MEM=16  memory of the card in GiB
 * SI_OOM=500 megabytes beyond which an allocation fails, though the card says that it has more
 * SI_REG=3   the third page-lock is refused, and all after it */
#include "cudart.h"

#include <sys/mman.h>

COUNTER(arena_bytes);
COUNTER(arena_peak);
COUNTER(mallocs);
COUNTER(locks);
COUNTER(unlocks);
COUNTER(refused_locks);
COUNTER(lock_faults);
COUNTER(locked_bytes);
COUNTER(locked_peak);

typedef struct { size_t size; char rest[248]; } Header; /* in front of each allocation, which stays aligned to 256 */

size_t total_memory(void) { return (size_t)(fault("SI_MEM", 16) * (1ull << 30)); }

static void raise_peak(long *peak, long now) {
    long seen = __atomic_load_n(peak, __ATOMIC_RELAXED);
    while (now > seen && !__atomic_compare_exchange_n(peak, &seen, now, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

int cudaMalloc(void **address, size_t size) {
    *address = NULL;
    if (broken()) return broken();
    double limit = fault("SI_OOM", 0) * 1e6;
    size_t then = (size_t)READ(arena_bytes) + size;
    if (then > total_memory() || (limit && then > limit)) return failed(OUT_OF_MEMORY);
    /* Pages that nobody writes cost nothing, so that a card of 80 GB fits on a small machine. */
    Header *header = mmap(NULL, sizeof(Header) + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (header == MAP_FAILED) return failed(OUT_OF_MEMORY);
    header->size = size;
    ADD(mallocs, 1);
    raise_peak(&standin_arena_peak, ADD(arena_bytes, size) + (long)size);
    *address = header + 1;
    return 0;
}

int cudaFree(void *address) {
    if (!address) return 0;
    Header *header = (Header *)address - 1;
    ADD(arena_bytes, -(long)header->size);
    munmap(header, sizeof(Header) + header->size);
    return 0;
}

int cudaMallocFromPoolAsync(void **address, size_t size, void *pool, void *stream) { return cudaMalloc(address, size); }
int cudaFreeAsync(void *address, void *stream) { return cudaFree(address); }

int cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *total = total_memory();
    *free_bytes = *total - (size_t)READ(arena_bytes);
    return broken();
}

int cudaMemset(void *address, int value, size_t size) {
    memset(address, value, size);
    return broken();
}

int cudaMemsetAsync(void *address, int value, size_t size, void *stream) { return broken(); }

/* --- page-locks: the ranges that are locked now --- */

typedef struct { uintptr_t start, end; } Range;

#define MOST 8192
static Range ranges[MOST];
static int ranges_n;
static pthread_mutex_t ranges_lock = PTHREAD_MUTEX_INITIALIZER;

static int overlapping(uintptr_t start, uintptr_t end) {
    for (int i = 0; i < ranges_n; i++)
        if (start < ranges[i].end && ranges[i].start < end) return i;
    return -1;
}

static void keep(uintptr_t start, size_t size) {
    if (ranges_n == MOST) abort();
    ranges[ranges_n++] = (Range){start, start + size};
    raise_peak(&standin_locked_peak, ADD(locked_bytes, size) + (long)size);
}

static int drop(uintptr_t start) {
    for (int i = 0; i < ranges_n; i++)
        if (ranges[i].start == start) {
            ADD(locked_bytes, -(long)(ranges[i].end - ranges[i].start));
            ranges[i] = ranges[--ranges_n];
            return 1;
        }
    return 0;
}

int is_locked(const void *address, size_t size) {
    pthread_mutex_lock(&ranges_lock);
    int at = overlapping((uintptr_t)address, (uintptr_t)address + size);
    int whole = at >= 0 && ranges[at].start <= (uintptr_t)address && (uintptr_t)address + size <= ranges[at].end;
    pthread_mutex_unlock(&ranges_lock);
    return whole;
}

int cudaHostRegister(void *address, size_t size, unsigned flags) {
    static long asked;
    long from = (long)fault("SI_REG", 0), number = __atomic_add_fetch(&asked, 1, __ATOMIC_RELAXED);
    if (broken()) return broken();
    if (from && number >= from) {
        ADD(refused_locks, 1);
        return failed(OUT_OF_MEMORY);
    }
    pthread_mutex_lock(&ranges_lock);
    /* Memory that was given back while it was locked comes again as the block of somebody else. */
    int twice = overlapping((uintptr_t)address, (uintptr_t)address + size) >= 0;
    if (!twice) keep((uintptr_t)address, size);
    pthread_mutex_unlock(&ranges_lock);
    ADD(lock_faults, twice);
    ADD(locks, !twice);
    return failed(twice ? ALREADY_REGISTERED : 0);
}

int cudaHostUnregister(void *address) {
    pthread_mutex_lock(&ranges_lock);
    int known = drop((uintptr_t)address);
    pthread_mutex_unlock(&ranges_lock);
    ADD(unlocks, known);
    ADD(lock_faults, !known);
    return failed(known ? 0 : NOT_REGISTERED);
}

/* How many locked ranges are no longer mapped, which a card would still write to. */
long standin_unmapped_locks(void) {
    long unmapped = 0;
    unsigned char page[1];
    pthread_mutex_lock(&ranges_lock);
    for (int i = 0; i < ranges_n; i++) unmapped += mincore((void *)(ranges[i].start & ~4095ul), 1, page) != 0;
    pthread_mutex_unlock(&ranges_lock);
    return unmapped;
}

/* Memory of the host that the runtime itself locks is not counted as ours, but a copy to it is one to locked memory. */
int cudaHostAlloc(void **address, size_t size, unsigned flags) {
    if (broken()) return broken();
    *address = aligned_alloc(4096, (size + 4095) & ~4095ul);
    return *address ? 0 : failed(OUT_OF_MEMORY);
}

int cudaMallocHost(void **address, size_t size) { return cudaHostAlloc(address, size, 0); }

int cudaFreeHost(void *address) {
    free(address);
    return 0;
}

int cudaPointerGetAttributes(void *attributes, const void *address) {
    memset(attributes, 0, 32);
    return 0;
}
