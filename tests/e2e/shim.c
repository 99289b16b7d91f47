/* Preloaded into a router by tests: its clock is off, or its disk is slow, stuck or broken.
 *
 * MST_TEST_CLOCK_MS  milliseconds that the wall clock is ahead; negative if it is behind
 * MST_TEST_SYNC_MS   milliseconds that each sync of a file takes longer
 * MST_TEST_DISK      a folder: while there is a file "stuck" in it, syncs wait; while there is
 *                    one "broken", they fail; and when there is one "later", an hour has passed
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long number(const char *name)
{
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static int disk_is(const char *state)
{
    char path[4096];
    const char *folder = getenv("MST_TEST_DISK");
    if (!folder)
        return 0;
    int before = errno;
    snprintf(path, sizeof path, "%s/%s", folder, state);
    int is_there = access(path, F_OK) == 0;
    errno = before;
    return is_there;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    static long offset;
    if (!real) {
        offset = number("MST_TEST_CLOCK_MS");
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    }
    int result = real(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) {
        if (disk_is("later"))
            now->tv_sec += 3600;
        long nanos = now->tv_nsec + offset % 1000 * 1000000;
        now->tv_sec += offset / 1000 + (nanos >= 1000000000) - (nanos < 0);
        now->tv_nsec = (nanos + 1000000000) % 1000000000;
    }
    return result;
}

static int wait_for_the_disk(void)
{
    long millis = number("MST_TEST_SYNC_MS");
    struct timespec pause = {millis / 1000, millis % 1000 * 1000000};
    struct timespec look = {0, 5000000};
    nanosleep(&pause, NULL);
    while (disk_is("stuck"))
        nanosleep(&look, NULL);
    errno = EIO;
    return disk_is("broken") ? -1 : 0;
}

int fsync(int file)
{
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return wait_for_the_disk() ? -1 : real(file);
}

int fdatasync(int file)
{
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return wait_for_the_disk() ? -1 : real(file);
}
