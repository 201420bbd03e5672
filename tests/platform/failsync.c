/* A disk that fails, put in front of a process with LD_PRELOAD.
 *
 * While the file `fail` is in the folder DUNLIN_TEST_DISK names, fsync and fdatasync answer EIO. The folder also holds, under
 * their names, the database and its log as the disk has them: a page gets there by an fsync that went well, and never when
 * the fsync after its write failed. Linux is like that: after a failed fsync the page is in memory, counts as written, and
 * no later fsync writes it. What is in the folder is what a loss of power leaves. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES (1 << 16) /* 256 MiB */
#define FDS 1024

struct file {
    const char *name;
    pthread_mutex_t lock;
    unsigned failures;       /* how often the disk failed under it */
    unsigned seen[FDS];      /* how many of them each descriptor was told of: each is told once */
    unsigned char dirty[PAGES];
};

static struct file files[] = {
    {.name = "dunlin.db", .lock = PTHREAD_MUTEX_INITIALIZER},
    {.name = "dunlin.db-wal", .lock = PTHREAD_MUTEX_INITIALIZER},
};

static void *real(const char *name) {
    void *function = dlsym(RTLD_NEXT, name);
    if (!function) abort();
    return function;
}

static struct file *file_of(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0 || fd >= FDS) return NULL;
    path[length] = 0;
    const char *slash = strrchr(path, '/');
    for (int i = 0; slash && i < 2; i++)
        if (!strcmp(slash + 1, files[i].name)) return &files[i];
    return NULL;
}

static void on_disk(const char *name, char path[PATH_MAX]) {
    snprintf(path, PATH_MAX, "%s/%s", getenv("DUNLIN_TEST_DISK"), name);
}

static int shadow(struct file *file) {
    static int (*real_open)(const char *, int, ...);
    if (!real_open) real_open = real("open");
    char path[PATH_MAX];
    on_disk(file->name, path);
    int fd = real_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) abort();
    return fd;
}

static void written(struct file *file, off64_t at, ssize_t length) {
    if (length <= 0) return;
    pthread_mutex_lock(&file->lock);
    for (off64_t page = at / PAGE; page <= (at + length - 1) / PAGE; page++) {
        if (page >= PAGES) abort();
        file->dirty[page] = 1;
    }
    pthread_mutex_unlock(&file->lock);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    static ssize_t (*next)(int, const void *, size_t, off64_t);
    if (!next) next = real("pwrite64");
    ssize_t count = next(fd, bytes, length, at);
    int error = errno;
    struct file *file = file_of(fd);
    if (file) written(file, at, count);
    errno = error;
    return count;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    static ssize_t (*next)(int, const void *, size_t);
    if (!next) next = real("write");
    ssize_t count = next(fd, bytes, length);
    int error = errno;
    struct file *file = count > 0 ? file_of(fd) : NULL;
    if (file) written(file, lseek64(fd, 0, SEEK_CUR) - count, count);
    errno = error;
    return count;
}

/* The length of a file is in the file system's journal, and soon on disk. */
int ftruncate64(int fd, off64_t length) {
    static int (*next)(int, off64_t);
    if (!next) next = real("ftruncate64");
    int result = next(fd, length);
    int error = errno;
    struct file *file = result == 0 ? file_of(fd) : NULL;
    if (file) {
        pthread_mutex_lock(&file->lock);
        int to = shadow(file);
        if (next(to, length)) abort();
        close(to);
        pthread_mutex_unlock(&file->lock);
    }
    errno = error;
    return result;
}

static void persist(struct file *file, int fd) {
    char page[PAGE];
    int to = shadow(file);
    for (off64_t at = 0; at < PAGES; at++) {
        if (!file->dirty[at]) continue;
        ssize_t length = pread64(fd, page, PAGE, at * PAGE);
        static ssize_t (*next)(int, const void *, size_t, off64_t);
        if (!next) next = real("pwrite64");
        if (length < 0 || next(to, page, length, at * PAGE) != length) abort();
    }
    close(to);
}

static int synced(int fd, const char *name) {
    char control[PATH_MAX];
    on_disk("fail", control);
    int fails = access(control, F_OK) == 0;
    struct file *file = file_of(fd);
    if (file) {
        pthread_mutex_lock(&file->lock);
        if (fails)
            file->failures++;
        else
            persist(file, fd);
        memset(file->dirty, 0, sizeof file->dirty);
        fails = file->seen[fd] != file->failures;
        file->seen[fd] = file->failures;
        pthread_mutex_unlock(&file->lock);
    }
    if (fails) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(int))real(name))(fd);
}

int fsync(int fd) { return synced(fd, "fsync"); }
int fdatasync(int fd) { return synced(fd, "fdatasync"); }
