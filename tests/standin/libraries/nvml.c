/* libnvidia-ml, the library of the driver's tools. A card is well, unless the environment asks for a fault:
 *
 * SI_NVML: the status of every call, such as 15 for a card that is lost; SI_NVML_INIT: that of the first.
 * SI_THROTTLE: the bits of the reasons why the clock is low; SI_ECC: uncorrected errors, without it there is no ECC.
 * SI_XID: the number of a fault, which is reported once. */
#include "standin.h"

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, TIMEOUT = 10 };

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { void *device; unsigned long long type, data; unsigned instance, compute; } Event;

static int whole, slice;
static int reported;

#define STATUS ((int)fault("SI_NVML", OK))

int nvmlInitWithFlags(unsigned flags) { return (int)fault("SI_NVML_INIT", STATUS); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int status) { return status == 15 ? "GPU is lost" : "stand-in"; }

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    int is_slice = !strncmp(uuid, "MIG-", 4);
    *device = is_slice ? &slice : &whole;
    return is_slice || !strncmp(uuid, "GPU-", 4) ? STATUS : NOT_FOUND;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *device, void **of) {
    *of = &whole;
    return STATUS;
}

int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
    memory->total = (device == &slice ? 10ull : 80ull) << 30;
    memory->used = 1ull << 30;
    memory->free = memory->total - memory->used;
    return STATUS;
}

static int of_whole_card(void *device, int status) { return device == &whole ? status : NOT_SUPPORTED; }

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) {
    *celsius = 61;
    return of_whole_card(device, STATUS);
}

int nvmlDeviceGetClockInfo(void *device, int kind, unsigned *mhz) {
    *mhz = kind == 1 ? 1710 : 0;
    return of_whole_card(device, STATUS);
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    *milliwatts = 251500;
    return of_whole_card(device, STATUS);
}

typedef struct { unsigned gpu, memory; } Utilization;

int nvmlDeviceGetUtilizationRates(void *device, Utilization *rates) {
    *rates = (Utilization){87, 40};
    return of_whole_card(device, STATUS);
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    *millijoules = 7250500;
    return of_whole_card(device, STATUS);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *bits) {
    *bits = (unsigned long long)fault("SI_THROTTLE", 1);
    return of_whole_card(device, STATUS);
}

int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, unsigned long long *errors) {
    *errors = kind == 1 ? (unsigned long long)fault("SI_ECC", 0) : 0;
    return of_whole_card(device, getenv("SI_ECC") ? STATUS : NOT_SUPPORTED);
}

int nvmlEventSetCreate(void **set) {
    *set = new_handle();
    return STATUS;
}

int nvmlDeviceRegisterEvents(void *device, unsigned long long kinds, void *set) { return of_whole_card(device, STATUS); }

int nvmlEventSetWait_v2(void *set, Event *event, unsigned timeout_ms) {
    if (!getenv("SI_XID") || reported++) return STATUS ? STATUS : TIMEOUT;
    *event = (Event){&whole, 8, (unsigned long long)fault("SI_XID", 0), 0, 0};
    return STATUS;
}
