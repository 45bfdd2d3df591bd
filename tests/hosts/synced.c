/* Preloaded into a Redis: after each sync of a file it writes down how many bytes of it were there before the sync.
   These survive when the machine loses its power; of what came later nobody knows. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int synced(int fd, const char *name) {
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct stat before;
    int known = fstat(fd, &before);
    int status = sync(fd);
    if (status == 0 && known == 0) {
        char link[64], path[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        int out = open(getenv("SYNCED"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (length > 0 && out >= 0) {
            path[length] = 0;
            dprintf(out, "%lld %s\n", (long long)before.st_size, path);
        }
        if (out >= 0)
            close(out);
    }
    return status;
}

int fsync(int fd) { return synced(fd, "fsync"); }
int fdatasync(int fd) { return synced(fd, "fdatasync"); }
