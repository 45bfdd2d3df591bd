/* libcuda, the driver's own library: it is there, which is all that the runtime's provider needs to be loaded. */
#include "standin.h"

int cuInit(unsigned flags) { return 0; }

int cuDriverGetVersion(int *version) {
    *version = (int)fault("SI_DRIVER", 13000);
    return 0;
}
