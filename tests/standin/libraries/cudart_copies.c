/* libcudart: copies between the host and the card, counted by direction.
 *
 * SI_ANSWERS=F     copies to the host give stored answers (tests/standin/answers.py writes the file), zeros for all else
 * SI_COPY_US=100   microseconds that each copy of 64 KiB or more takes at least */
#include "cudart.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

COUNTER(copies);
COUNTER(copies_up);
COUNTER(copies_down);
COUNTER(bytes_up);
COUNTER(bytes_down);
COUNTER(locked_bytes_up);
COUNTER(locked_bytes_down);
COUNTER(overlapping_copies);

enum { HOST_TO_DEVICE = 1, DEVICE_TO_HOST = 2 };
enum { SMALL = 64 * 1024, SMALLEST_INPUT = 1024 };

long launches_of_others(void);
long convolutions_here(void);

/* --- answers ---
 *
 * The file has records of an input, the convolutions of a network, and one of its outputs for that input. A copy down
 * gives the output of the record with the input that this thread copied up last, the convolutions that it has run since,
 * and the size that it asks for: two networks may take the same image and give images of the same size. */

typedef struct { int64_t input_size, convolutions, output_size; char bytes[]; } Answer;

static const char *answers, *answers_end;
static pthread_once_t answers_once = PTHREAD_ONCE_INIT;
static __thread const Answer *given; /* the first record of the input that this thread copied up last */
static __thread long convolutions_before;

static void map_answers(void) {
    const char *path = getenv("SI_ANSWERS");
    struct stat status;
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0 || fstat(file, &status) || !status.st_size) return;
    answers = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    answers_end = answers + status.st_size;
    close(file);
}

static int has_answers(void) {
    pthread_once(&answers_once, map_answers);
    return answers != NULL;
}

static const Answer *after(const Answer *answer) {
    return (const Answer *)(answer->bytes + ((answer->input_size + answer->output_size + 7) & ~7));
}

static int is_of(const Answer *answer, const void *input, size_t size) {
    return answer->input_size == (int64_t)size && !memcmp(answer->bytes, input, size);
}

static void remember(const void *input, size_t size) {
    if (!has_answers() || size < SMALLEST_INPUT) return;
    convolutions_before = convolutions_here();
    given = NULL;
    for (const Answer *a = (const Answer *)answers; (const char *)a < answers_end && !given; a = after(a))
        if (is_of(a, input, size)) given = a;
}

static void answer(void *host, size_t size) {
    memset(host, 0, size);
    long convolutions = convolutions_here() - convolutions_before;
    for (const Answer *a = given; a && (const char *)a < answers_end; a = after(a))
        if (a->output_size == (int64_t)size && a->convolutions == convolutions &&
            is_of(a, given->bytes, (size_t)given->input_size)) {
            memcpy(host, a->bytes + a->input_size, size);
            return;
        }
}

/* --- copies --- */

static void count(const void *to, const void *from, size_t size, int direction) {
    if (direction == HOST_TO_DEVICE) {
        ADD(copies_up, 1);
        ADD(bytes_up, size);
        if (is_locked(from, size)) ADD(locked_bytes_up, size);
    } else if (direction == DEVICE_TO_HOST) {
        ADD(copies_down, 1);
        ADD(bytes_down, size);
        if (is_locked(to, size)) ADD(locked_bytes_down, size);
    }
    ADD(copies, 1);
}

static int copied(void *to, const void *from, size_t size, int direction) {
    if (broken()) return broken();
    long before = launches_of_others();
    count(to, from, size, direction);
    if (direction == HOST_TO_DEVICE) remember(from, size);
    if (direction == DEVICE_TO_HOST && has_answers()) answer(to, size);
    else memcpy(to, from, size);
    if (size < SMALL) return 0;
    if (fault("SI_COPY_US", 0)) usleep((unsigned)fault("SI_COPY_US", 0));
    if (direction == DEVICE_TO_HOST && launches_of_others() > before) ADD(overlapping_copies, 1);
    return 0;
}

int cudaMemcpy(void *to, const void *from, size_t size, int direction) { return copied(to, from, size, direction); }

int cudaMemcpyAsync(void *to, const void *from, size_t size, int direction, void *stream) {
    return copied(to, from, size, direction);
}

int cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                      int direction, void *stream) {
    return broken();
}
