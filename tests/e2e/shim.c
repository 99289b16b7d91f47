/* Preloaded into a router by tests: its clock is off, or its disk is slow.
 *
 * MST_TEST_CLOCK_MS  milliseconds that the wall clock is ahead; negative if it is behind
 * MST_TEST_SYNC_MS   milliseconds that each sync of a file takes longer
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long number(const char *name)
{
    const char *text = getenv(name);
    return text ? atol(text) : 0;
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
        long nanos = now->tv_nsec + offset % 1000 * 1000000;
        now->tv_sec += offset / 1000 + (nanos >= 1000000000) - (nanos < 0);
        now->tv_nsec = (nanos + 1000000000) % 1000000000;
    }
    return result;
}

static void wait_for_the_disk(void)
{
    long millis = number("MST_TEST_SYNC_MS");
    struct timespec pause = {millis / 1000, millis % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

int fsync(int file)
{
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_for_the_disk();
    return real(file);
}

int fdatasync(int file)
{
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_for_the_disk();
    return real(file);
}
