/* Preloaded into this test's own processes: it stands between a process and its disk.
 *
 * A filter of the kernel (seccomp) has every system call that reads or changes a file trapped, also those
 * that are made without the C library. A trapped call below the watched folder is recorded, slowed
 * down or made to fail, as the process asks by writing to the file MST_DISK_CONTROL, which need not be
 * there:
 *
 *   record FOLDER FILE  from now on each change below FOLDER is appended to FILE
 *   mark TEXT           TEXT is appended to FILE
 *   kill                the process ends as by SIGKILL, with no call made that is not recorded
 *   fail FOLDER KIND N  below FOLDER the call of number N (from 0) of that kind fails, and those after it;
 *                       KIND: write, full, sync, read
 *   slow FOLDER MILLIS  below FOLDER each sync takes longer
 *   hold FOLDER         below FOLDER no sync ends before another command comes
 *   stop                none of that
 *
 * Reading the file gives how many calls of the kind there were, how many failed, and the syncs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>

#define PATH 4096

/* The one place from which calls are let through. */
#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
__asm__(".text\n.globl mst_call\n.type mst_call,@function\nmst_call:\n"
        "mov %rdi,%rax\nmov %rsi,%rdi\nmov %rdx,%rsi\nmov %rcx,%rdx\n"
        "mov %r8,%r10\nmov %r9,%r8\nmov 8(%rsp),%r9\nsyscall\n"
        ".globl mst_called\nmst_called:\nret\n");
#define NUMBER(c) ((long)(c)->uc_mcontext.gregs[REG_RAX])
#define RESULT(c) ((c)->uc_mcontext.gregs[REG_RAX])
static const int REGISTERS[6] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
#define ARGUMENT(c, n) ((long)(c)->uc_mcontext.gregs[REGISTERS[n]])
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
__asm__(".text\n.globl mst_call\n.type mst_call,%function\nmst_call:\n"
        "mov x8,x0\nmov x0,x1\nmov x1,x2\nmov x2,x3\nmov x3,x4\nmov x4,x5\nmov x5,x6\nsvc #0\n"
        ".globl mst_called\nmst_called:\nret\n");
#define NUMBER(c) ((long)(c)->uc_mcontext.regs[8])
#define RESULT(c) ((c)->uc_mcontext.regs[0])
#define ARGUMENT(c, n) ((long)(c)->uc_mcontext.regs[n])
#else
#error "this processor is not known"
#endif
extern long mst_call(long number, long a, long b, long c, long d, long e, long f);
extern char mst_called[];
#define CALL(number, a, b, c, d, e, f) \
    mst_call(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

enum record { CREATE = 1, MKDIR, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, LINK, MARK, UNKNOWN };

struct head {
    uint32_t kind, first, second, unused;
    uint64_t inode, number;
};

enum kind { NONE, WRITES, FULL, SYNCS, READS };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *control;
static char folder[PATH];
static int recording = -1;
static enum kind failing;
static long fail_at, seen, failed, syncs, slow;
static volatile int is_watching, is_holding, control_file = -1;

static void append(int kind, uint64_t inode, uint64_t number, const char *first, size_t first_len,
                   const char *second, size_t second_len)
{
    struct head head = {kind, first_len, second_len, 0, inode, number};
    struct iovec pieces[3] = {{&head, sizeof head}, {(void *)first, first_len}, {(void *)second, second_len}};
    long length = sizeof head + first_len + second_len;
    if (CALL(SYS_writev, recording, pieces, 3, 0, 0, 0) != length)
        abort();
}

static void append_path(int kind, uint64_t inode, uint64_t number, const char *first, const char *second)
{
    append(kind, inode, number, first, strlen(first), second, second ? strlen(second) : 0);
}

static int is_below(const char *path)
{
    size_t length = strlen(folder);
    return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

/* The path of an open file. */
static int path_of(long file, char *path)
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", (int)file);
    long length = CALL(SYS_readlinkat, AT_FDCWD, link, path, PATH - 1, 0, 0);
    path[length > 0 ? length : 0] = 0;
    return length > 0;
}

/* The path that a call means. */
static void resolve(long file, const char *given, char *path)
{
    if (given[0] == '/' || (int)file == AT_FDCWD) {
        snprintf(path, PATH, "%s", given);
        return;
    }
    char base[PATH];
    path_of(file, base);
    if (snprintf(path, PATH, "%s/%s", base, given) >= PATH)
        abort();
}

static struct stat status_of(long file)
{
    struct stat status;
    memset(&status, 0, sizeof status);
    CALL(SYS_newfstatat, file, "", &status, AT_EMPTY_PATH, 0, 0);
    return status;
}

/* Whether the call is to fail, which is of one of these kinds. */
static int fails(int is_write, int is_growing, int is_sync, int is_read)
{
    int counts = (failing == WRITES && is_write) || (failing == FULL && is_growing) ||
                 (failing == SYNCS && is_sync) || (failing == READS && is_read);
    if (!counts || seen++ < fail_at)
        return 0;
    failed++;
    return failing == FULL ? -ENOSPC : -EIO;
}

static void obey(const char *text, size_t length)
{
    char command[3 * PATH], file[PATH], kind[16];
    if (length >= sizeof command)
        abort();
    memcpy(command, text, length);
    command[length] = 0;
    if (!strncmp(command, "mark ", 5)) {
        if (recording >= 0)
            append(MARK, 0, 0, text + 5, length - 5, NULL, 0);
        return;
    }
    if (!strcmp(command, "kill")) {
        /* A call and its record are one step to whoever holds the lock, and it is never unlocked. */
        CALL(SYS_kill, CALL(SYS_getpid, 0, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0, 0);
        for (;;)
            CALL(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
    }
    if (recording >= 0)
        CALL(SYS_close, recording, 0, 0, 0, 0, 0);
    recording = -1;
    failing = NONE;
    fail_at = seen = failed = syncs = slow = is_holding = 0;
    folder[0] = 0;
    is_watching = strcmp(command, "stop") != 0;
    if (sscanf(command, "record %4095s %4095s", folder, file) == 2) {
        recording = CALL(SYS_openat, AT_FDCWD, file, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600, 0, 0);
        if (recording < 0)
            abort();
    } else if (sscanf(command, "fail %4095s %15s %ld", folder, kind, &fail_at) == 3) {
        failing = !strcmp(kind, "write") ? WRITES : !strcmp(kind, "full") ? FULL : !strcmp(kind, "sync") ? SYNCS : READS;
    } else if (sscanf(command, "hold %4095s", folder) == 1) {
        is_holding = 1;
    } else if (sscanf(command, "slow %4095s %ld", folder, &slow) != 2 && strcmp(command, "stop")) {
        abort();
    }
}

static long opened(long number, const long *a)
{
    long at = number == SYS_openat ? a[0] : AT_FDCWD;
    const char *given = (const char *)(number == SYS_openat ? a[1] : a[0]);
    long flags = number == SYS_openat ? a[2] : a[1];
    char path[PATH];
    struct stat before;
    if (!strcmp(given, control))
        return control_file = CALL(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0, 0, 0);
    resolve(at, given, path);
    if (!is_below(path))
        return CALL(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    int is_new = (flags & O_CREAT) && CALL(SYS_newfstatat, AT_FDCWD, path, &before, 0, 0, 0) == -ENOENT;
    int error = fails(0, is_new, 0, 0);
    if (error)
        return error;
    long file = CALL(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (file < 0 || recording < 0)
        return file;
    if (is_new)
        append_path(CREATE, status_of(file).st_ino, 0, path, NULL);
    else if (flags & O_TRUNC)
        append(TRUNCATE, status_of(file).st_ino, 0, NULL, 0, NULL, 0);
    return file;
}

static long written(long number, const long *a)
{
    struct iovec whole = {(void *)a[1], a[2]};
    int is_vector = number == SYS_writev || number == SYS_pwritev;
    const struct iovec *pieces = is_vector ? (const struct iovec *)a[1] : &whole;
    int count = is_vector ? a[2] : 1;
    int error = fails(1, 1, 0, 0);
    if (error)
        return error;
    long result = CALL(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (result <= 0 || recording < 0)
        return result;
    int is_placed = number == SYS_pwrite64 || number == SYS_pwritev;
    long at = is_placed ? a[3] : CALL(SYS_lseek, a[0], 0, SEEK_CUR, 0, 0, 0) - result;
    uint64_t inode = status_of(a[0]).st_ino;
    long left = result;
    for (int index = 0; index < count && left > 0; index++) {
        long length = (long)pieces[index].iov_len < left ? (long)pieces[index].iov_len : left;
        append(WRITE, inode, at, NULL, 0, pieces[index].iov_base, length);
        at += length;
        left -= length;
    }
    return result;
}

/* A call on an open file. */
static long on_file(long number, const long *a, const char *path, int *is_slow)
{
    if (a[0] == control_file && (number == SYS_write || number == SYS_read)) {
        if (number == SYS_write) {
            obey((const char *)a[1], a[2]);
            return a[2];
        }
        return snprintf((char *)a[1], a[2], "%ld %ld %ld", seen, failed, syncs);
    }
    if (!is_below(path))
        return CALL(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    int error = 0;
    switch (number) {
    case SYS_write:
    case SYS_pwrite64:
    case SYS_writev:
    case SYS_pwritev:
        return written(number, a);
    case SYS_read:
    case SYS_pread64:
    case SYS_getdents64:
        error = fails(0, 0, 0, 1);
        return error ? error : CALL(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    case SYS_fsync:
    case SYS_fdatasync: {
        syncs++;
        *is_slow = slow > 0 || is_holding;
        error = fails(0, 0, 1, 0);
        long result = error ? error : CALL(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (result == 0 && recording >= 0) {
            struct stat status = status_of(a[0]);
            append(SYNC, status.st_ino, S_ISDIR(status.st_mode), path, strlen(path), NULL, 0);
        }
        return result;
    }
    case SYS_ftruncate: {
        error = fails(0, a[1] > status_of(a[0]).st_size, 0, 0);
        long result = error ? error : CALL(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (result == 0 && recording >= 0)
            append(TRUNCATE, status_of(a[0]).st_ino, a[1], NULL, 0, NULL, 0);
        return result;
    }
    default: {
        /* Nothing here knows what it does. */
        long result = CALL(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (result >= 0 && recording >= 0)
            append_path(UNKNOWN, 0, number, path, NULL);
        return result;
    }
    }
}

static long named(long number, const char *path, const char *second, int kind, const long *a, int is_growing)
{
    if (!is_below(path) && !(second && is_below(second)))
        return CALL(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    int error = fails(0, is_growing, 0, 0);
    if (error)
        return error;
    long result = CALL(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (result < 0 || recording < 0)
        return result;
    struct stat status;
    memset(&status, 0, sizeof status);
    CALL(SYS_newfstatat, AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW, 0, 0);
    append_path(kind, status.st_ino, number, path, second);
    return result;
}

static void trapped(int signal, siginfo_t *info, void *at)
{
    (void)signal, (void)info;
    ucontext_t *context = at;
    int errno_before = errno;
    long number = NUMBER(context), a[6], result;
    int is_slow = 0;
    char first[PATH], second[PATH];
    for (int index = 0; index < 6; index++)
        a[index] = ARGUMENT(context, index);
    int is_control = (number == SYS_read || number == SYS_write) && a[0] == control_file;
    if (!is_watching && !is_control && number != SYS_openat) {
        RESULT(context) = CALL(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        return;
    }
    pthread_mutex_lock(&lock);
    switch (number) {
#ifdef SYS_open
    case SYS_open:
    case SYS_mkdir:
    case SYS_unlink:
    case SYS_rmdir:
    case SYS_rename:
    case SYS_link:
        if (number == SYS_open) {
            result = opened(number, a);
            break;
        }
        resolve(AT_FDCWD, (const char *)a[0], first);
        if (number == SYS_rename || number == SYS_link)
            resolve(AT_FDCWD, (const char *)a[1], second);
        result = number == SYS_mkdir    ? named(number, first, NULL, MKDIR, a, 1)
                 : number == SYS_rename ? named(number, first, second, RENAME, a, 0)
                 : number == SYS_link   ? named(number, first, second, LINK, a, 1)
                                        : named(number, first, NULL, UNLINK, a, 0);
        break;
#endif
    case SYS_openat:
        result = opened(number, a);
        break;
    case SYS_mkdirat:
        resolve(a[0], (const char *)a[1], first);
        result = named(number, first, NULL, MKDIR, a, 1);
        break;
    case SYS_unlinkat:
        resolve(a[0], (const char *)a[1], first);
        result = named(number, first, NULL, UNLINK, a, 0);
        break;
#ifdef SYS_renameat
    case SYS_renameat:
#endif
    case SYS_renameat2:
    case SYS_linkat:
        resolve(a[0], (const char *)a[1], first);
        resolve(a[2], (const char *)a[3], second);
        result = named(number, first, second, number == SYS_linkat ? LINK : RENAME, a, number == SYS_linkat);
        break;
    default:
        path_of(number == SYS_mmap ? a[4] : a[0], first);
        result = on_file(number, a, first, &is_slow);
        break;
    }
    long millis = slow;
    pthread_mutex_unlock(&lock);
    if (is_slow) {
        struct timespec pause = {millis / 1000, millis % 1000 * 1000000}, moment = {0, 1000000};
        nanosleep(&pause, NULL);
        while (is_holding)
            nanosleep(&moment, NULL);
    }
    errno = errno_before;
    RESULT(context) = result;
}

static const int TRAPPED[] = {
#ifdef SYS_open
    SYS_open, SYS_mkdir, SYS_unlink, SYS_rmdir, SYS_rename, SYS_link,
#endif
#ifdef SYS_renameat
    SYS_renameat,
#endif
    SYS_openat, SYS_mkdirat, SYS_unlinkat, SYS_renameat2, SYS_linkat,
    SYS_write, SYS_pwrite64, SYS_writev, SYS_pwritev, SYS_read, SYS_pread64, SYS_getdents64,
    SYS_fsync, SYS_fdatasync, SYS_ftruncate, SYS_fallocate, SYS_sync_file_range, SYS_syncfs,
};

/* The standard library does these by reading and writing where the kernel cannot. */
static const int REFUSED[] = {SYS_copy_file_range, SYS_sendfile, SYS_splice};

static struct sock_filter program[160];
static int length;

static void add(uint16_t code, uint8_t yes, uint8_t no, uint32_t value)
{
    struct sock_filter step = {code, yes, no, value};
    program[length++] = step;
}

#define FIELD(name) offsetof(struct seccomp_data, name)
#define LOAD (BPF_LD | BPF_W | BPF_ABS)
#define EQUAL (BPF_JMP | BPF_JEQ | BPF_K)
#define RETURN (BPF_RET | BPF_K)

__attribute__((constructor)) static void begin(void)
{
    control = getenv("MST_DISK_CONTROL");
    if (!control)
        return;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = trapped;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSYS, &action, NULL);
    uint64_t here = (uint64_t)mst_called;
    add(LOAD, 0, 0, FIELD(arch));
    add(EQUAL, 1, 0, ARCH);
    add(RETURN, 0, 0, SECCOMP_RET_KILL_PROCESS);
    add(LOAD, 0, 0, FIELD(instruction_pointer));
    add(EQUAL, 0, 3, (uint32_t)here);
    add(LOAD, 0, 0, FIELD(instruction_pointer) + 4);
    add(EQUAL, 0, 1, (uint32_t)(here >> 32));
    add(RETURN, 0, 0, SECCOMP_RET_ALLOW);
    add(LOAD, 0, 0, FIELD(nr));
    for (size_t index = 0; index < sizeof REFUSED / sizeof *REFUSED; index++) {
        add(EQUAL, 0, 1, REFUSED[index]);
        add(RETURN, 0, 0, SECCOMP_RET_ERRNO | ENOSYS);
    }
    for (size_t index = 0; index < sizeof TRAPPED / sizeof *TRAPPED; index++) {
        add(EQUAL, 0, 1, TRAPPED[index]);
        add(RETURN, 0, 0, SECCOMP_RET_TRAP);
    }
    /* Maps of files by which a process writes to them. */
    add(EQUAL, 0, 7, SYS_mmap);
    add(LOAD, 0, 0, FIELD(args[3]));
    add(BPF_ALU | BPF_AND | BPF_K, 0, 0, MAP_TYPE | MAP_ANONYMOUS);
    add(EQUAL, 1, 0, MAP_SHARED);
    add(EQUAL, 0, 3, MAP_SHARED_VALIDATE);
    add(LOAD, 0, 0, FIELD(args[2]));
    add(BPF_JMP | BPF_JSET | BPF_K, 0, 1, PROT_WRITE);
    add(RETURN, 0, 0, SECCOMP_RET_TRAP);
    add(RETURN, 0, 0, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {length, program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) {
        perror("no filter of system calls can be had");
        _exit(3);
    }
}
