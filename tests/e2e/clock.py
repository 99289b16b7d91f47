"""A clock that is wrong, for one process alone."""

import subprocess

#: Loaded before the C library, it says another time of day than that one. All else, such
#: as the time since the machine was started, it leaves alone.
_SOURCE = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    long result = syscall(SYS_clock_gettime, clock, time);
    const char *ahead = getenv("CLOCK_AHEAD_SECONDS");
    if (result == 0 && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += atol(ahead);
    return (int)result;
}
"""


def wrong_clock(folder, seconds):
    """The environment of a process whose clock is so far ahead."""
    source = folder / "clock.c"
    library = folder / "libclock.so"
    source.write_text(_SOURCE)
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", "-o", library, source], check=True, timeout=60
    )
    return {"LD_PRELOAD": str(library), "CLOCK_AHEAD_SECONDS": str(seconds)}
