/* libcublas, libcublasLt and libcurand: a handle for each who asks, and nothing else. */
#include "standin.h"

#define GIVES_HANDLE(function)      \
    int function(void **handle) {   \
        *handle = new_handle();     \
        return 0;                   \
    }

GIVES_HANDLE(cublasCreate_v2)
GIVES_HANDLE(cublasLtCreate)
GIVES_HANDLE(curandCreateGenerator)

int cublasGetMathMode(void *handle, int *mode) {
    *mode = 0;
    return 0;
}

const char *cublasGetStatusName(int status) { return "CUBLAS_STATUS_STANDIN"; }
const char *cublasGetStatusString(int status) { return "an error of the stand-in"; }
