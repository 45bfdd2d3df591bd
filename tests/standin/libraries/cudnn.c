/* libcudnn: the backend through which ONNX Runtime finds, builds and runs the plan of a convolution.
 *
 * Each search offers two plans: number 0 with the note that it uses tensor cores, number 1 without. What the caller
 * chooses and executes is counted.
 *
 * SI_NOPLAN=half   no plan for convolutions of half precision; `all`: for none
 * SI_DELAY_US=1000 microseconds that each convolution takes
 * SI_CUDNN=92801   the version */
#include "standin.h"

COUNTER(plans);
COUNTER(searches);
COUNTER(tensor_core_runs);
COUNTER(other_runs);
COUNTER(added_biases);

/* Kinds of descriptors, attributes and notes, by cuDNN's numbers. */
enum { ENGINE_SEARCH = 4, PLAN = 5, OPERATION_GRAPH = 15 };
enum { TENSOR_TYPE = 901, HALF = 2 };
enum { TENSOR_CORES = 0 };
enum { NOT_SUPPORTED = 3000, EXECUTION_FAILED = 5000 };

typedef struct { int kind; int64_t number; int half; } Descriptor;

static __thread int half_seen; /* a tensor of half precision since the last graph of operations */

size_t cudnnGetVersion(void) { return (size_t)fault("SI_CUDNN", 92801); }
const char *cudnnGetErrorString(int status) { return status == NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED" : "CUDNN_STATUS_EXECUTION_FAILED"; }
void cudnnGetLastErrorString(char *message, size_t size) { if (size) *message = 0; }

int cudnnCreate(void **handle) {
    *handle = new_handle();
    return 0;
}

int cudnnGetStream(void *handle, void **stream) {
    *stream = NULL;
    return 0;
}

int cudnnAddTensor() {
    ADD(added_biases, 1);
    return 0;
}

int cudnnBackendCreateDescriptor(int kind, void **descriptor) {
    Descriptor *made = calloc(1, sizeof *made);
    made->kind = kind;
    *descriptor = made;
    return 0;
}

int cudnnBackendDestroyDescriptor(void *descriptor) {
    free(descriptor);
    return 0;
}

static int without_plan(int half) {
    const char *which = getenv("SI_NOPLAN");
    return which && (!strcmp(which, "all") || (half && !strcmp(which, "half")));
}

int cudnnBackendFinalize(void *descriptor) {
    Descriptor *it = descriptor;
    if (it->kind == OPERATION_GRAPH) {
        it->half = half_seen;
        half_seen = 0;
    }
    if (it->kind == PLAN) ADD(plans, 1);
    if (it->kind == ENGINE_SEARCH) ADD(searches, 1);
    return 0;
}

/* A plan is of a configuration, that of an engine, and a search of a graph: number and precision go along. */
int cudnnBackendSetAttribute(void *descriptor, int attribute, int type, int64_t n, const void *value) {
    enum { SEARCH_GRAPH = 201, CONFIGURATION_ENGINE = 300, PLAN_CONFIGURATION = 401 };
    Descriptor *it = descriptor;
    if (attribute == TENSOR_TYPE && *(const int *)value == HALF) half_seen = 1;
    if (attribute == SEARCH_GRAPH || attribute == CONFIGURATION_ENGINE || attribute == PLAN_CONFIGURATION) {
        const Descriptor *other = *(Descriptor *const *)value;
        it->number = other->number;
        it->half = other->half;
    }
    return 0;
}

static int64_t found_plans(const Descriptor *search, int64_t wanted, Descriptor **found) {
    int64_t there = without_plan(search->half) ? 0 : 2;
    if (!found || !wanted) return there;
    there = wanted < there ? wanted : there;
    for (int64_t i = 0; i < there; i++) {
        found[i]->number = i;
        found[i]->half = search->half;
    }
    return there;
}

int cudnnBackendGetAttribute(void *descriptor, int attribute, int type, int64_t wanted, int64_t *count, void *value) {
    enum {
        SEARCH_RESULTS = 202,
        CONFIGURATION_ENGINE = 300,
        CONFIGURATION_WORKSPACE = 303,
        CONFIGURATION_SHARED_MEMORY = 304,
        PLAN_WORKSPACE = 402,
        LAYOUT_TYPE = 802,
        ENGINE_NUMBER = 1301,
        ENGINE_NOTES = 1303,
    };
    Descriptor *it = descriptor;
    int64_t there = 1, number = 0;
    int has = value && wanted;
    switch (attribute) {
    case SEARCH_RESULTS: there = found_plans(it, wanted, value); break;
    case CONFIGURATION_ENGINE:
        if (has) (*(Descriptor **)value)->number = it->number;
        break;
    case CONFIGURATION_SHARED_MEMORY:
        if (has) *(int *)value = 0;
        break;
    case CONFIGURATION_WORKSPACE:
    case PLAN_WORKSPACE:
    case LAYOUT_TYPE:
    case ENGINE_NUMBER:
        number = attribute == ENGINE_NUMBER ? it->number : attribute == LAYOUT_TYPE ? 2 : 0;
        if (has) *(int64_t *)value = number;
        break;
    case ENGINE_NOTES:
        there = it->number == 0;
        if (there && has) *(int *)value = TENSOR_CORES;
        break;
    default: there = 0;
    }
    if (count) *count = there;
    return 0;
}

int convolved(void); /* of libcudart */

int cudnnBackendExecute(void *handle, void *plan, void *arguments) {
    if (fault("SI_DELAY_US", 0)) usleep((unsigned)fault("SI_DELAY_US", 0));
    if (((Descriptor *)plan)->number == 0) ADD(tensor_core_runs, 1);
    else ADD(other_runs, 1);
    return convolved() ? EXECUTION_FAILED : 0;
}
