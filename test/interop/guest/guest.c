/* What busybox lacks, for the kernel-client tests: `guest COMMAND ARGUMENT…` inside the virtual machine.
 * Every command prints one line and exits 0, or says what went wrong on stderr and exits 1. Build: gcc -O2 -static. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

static void fail(const char *what)
{
	fprintf(stderr, "guest: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void wrong(const char *what, long long at)
{
	fprintf(stderr, "guest: %s (%lld)\n", what, at);
	exit(1);
}

static long number(const char *text) { return strtol(text, NULL, 0); }

static int opened(const char *path, int flags)
{
	int fd = open(path, flags, 0644);
	if (fd < 0) fail(path);
	return fd;
}

static void write_all(int fd, const void *data, size_t n, off_t at)
{
	for (size_t done = 0; done < n;) {
		ssize_t k = pwrite(fd, (const char *)data + done, n - done, at + done);
		if (k < 0 && errno != EINTR) fail("pwrite");
		if (k > 0) done += k;
	}
}

static size_t read_all(int fd, void *data, size_t n, off_t at)
{
	size_t done = 0;
	while (done < n) {
		ssize_t k = pread(fd, (char *)data + done, n - done, at + done);
		if (k < 0 && errno == EINTR) continue;
		if (k < 0) fail("pread");
		if (k == 0) break;
		done += k;
	}
	return done;
}

/* The same bytes for the same seed and place, never zero as a whole. */
static void fill(uint64_t *words, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n / 8; i++) words[i] = (seed * 0x100000001b3ULL + i + 1) * 0x9E3779B97F4A7C15ULL;
}

static void check(const uint64_t *words, size_t n, uint64_t seed, const char *what)
{
	for (size_t i = 0; i < n / 8; i++)
		if (words[i] != (seed * 0x100000001b3ULL + i + 1) * 0x9E3779B97F4A7C15ULL) wrong(what, seed);
}

static int c_mount(char **a)
{
	if (mount(a[0], a[1], "nfs", 0, a[2])) fail("mount");
	return puts("mounted") < 0;
}

static void print_time(const char *name, struct timespec t) { printf(" %s=%lld.%09ld", name, (long long)t.tv_sec, t.tv_nsec); }

static int c_stat(char **a)
{
	struct stat s;
	if (lstat(a[0], &s)) fail(a[0]);
	printf("type=%o mode=%o nlink=%lu uid=%u gid=%u size=%lld blocks=%lld ino=%llu rdev=%u:%u", s.st_mode >> 12, s.st_mode & 07777,
	       (unsigned long)s.st_nlink, s.st_uid, s.st_gid, (long long)s.st_size, (long long)s.st_blocks, (unsigned long long)s.st_ino,
	       major(s.st_rdev), minor(s.st_rdev));
	print_time("atime", s.st_atim);
	print_time("mtime", s.st_mtim);
	print_time("ctime", s.st_ctim);
	return puts("") < 0;
}

static int c_utimens(char **a)
{
	struct timespec t[2] = { { number(a[1]), number(a[2]) }, { number(a[3]), number(a[4]) } };
	if (utimensat(AT_FDCWD, a[0], t, AT_SYMLINK_NOFOLLOW)) fail(a[0]);
	return puts("set") < 0;
}

/* errno OPERATION PATH [PATH2]: the name of the error that the kernel returns, or "OK". */
static int c_errno(char **a)
{
	const char *op = a[0];
	int rc = -1;
	char text[16];
	errno = ENOSYS;
	if (!strcmp(op, "mkdir")) rc = mkdir(a[1], 0755);
	else if (!strcmp(op, "rmdir")) rc = rmdir(a[1]);
	else if (!strcmp(op, "unlink")) rc = unlink(a[1]);
	else if (!strcmp(op, "rename")) rc = rename(a[1], a[2]);
	else if (!strcmp(op, "link")) rc = linkat(AT_FDCWD, a[1], AT_FDCWD, a[2], 0);
	else if (!strcmp(op, "symlink")) rc = symlink(a[1], a[2]);
	else if (!strcmp(op, "readlink")) rc = readlink(a[1], text, sizeof text) < 0 ? -1 : 0;
	else if (!strcmp(op, "open")) rc = open(a[1], O_RDONLY);
	else if (!strcmp(op, "create")) rc = open(a[1], O_WRONLY | O_CREAT, 0644);
	else if (!strcmp(op, "exclusive")) rc = open(a[1], O_WRONLY | O_CREAT | O_EXCL, 0644);
	else if (!strcmp(op, "opendir")) rc = open(a[1], O_RDONLY | O_DIRECTORY);
	else if (!strcmp(op, "truncate")) rc = truncate(a[1], number(a[2]));
	else if (!strcmp(op, "chmod")) rc = chmod(a[1], number(a[2]));
	else if (!strcmp(op, "chown")) rc = chown(a[1], number(a[2]), -1);
	else if (!strcmp(op, "setuid-open")) rc = setresuid(number(a[2]), number(a[2]), number(a[2])) || open(a[1], O_RDONLY) < 0 ? -1 : 0;
	return puts(rc < 0 ? strerrorname_np(errno) : "OK") < 0;
}

/* lock FILE r|w|u START LENGTH try|wait SECONDS: fcntl(2), held so long. Prints "OK" or the name of the error. */
static int c_lock(char **a)
{
	struct flock l = { .l_type = *a[1] == 'r' ? F_RDLCK : *a[1] == 'w' ? F_WRLCK : F_UNLCK, .l_start = strtoll(a[2], NULL, 0), .l_len = strtoll(a[3], NULL, 0) };
	int fd = opened(a[0], O_RDWR | O_CREAT);
	int rc = fcntl(fd, !strcmp(a[4], "wait") ? F_SETLKW : F_SETLK, &l);
	puts(rc < 0 ? strerrorname_np(errno) : "OK");
	fflush(stdout);
	if (rc == 0) sleep(number(a[5]));
	return 0;
}

/* getlk FILE r|w START LENGTH: who is in the way, as F_GETLK says: kind, start and length, or "free". */
static int c_getlk(char **a)
{
	struct flock l = { .l_type = *a[1] == 'r' ? F_RDLCK : F_WRLCK, .l_start = strtoll(a[2], NULL, 0), .l_len = strtoll(a[3], NULL, 0) };
	if (fcntl(opened(a[0], O_RDWR), F_GETLK, &l)) fail("F_GETLK");
	if (l.l_type == F_UNLCK) return puts("free") < 0;
	return printf("%s %lld %lld\n", l.l_type == F_RDLCK ? "r" : "w", (long long)l.l_start, (long long)l.l_len) < 0;
}

/* flock FILE s|x try|wait SECONDS: flock(2), which NFS sends as a lock of the whole file. */
static int c_flock(char **a)
{
	int how = (*a[1] == 's' ? LOCK_SH : LOCK_EX) | (!strcmp(a[2], "wait") ? 0 : LOCK_NB);
	int rc = flock(opened(a[0], O_RDWR | O_CREAT), how);
	puts(rc < 0 ? strerrorname_np(errno) : "OK");
	fflush(stdout);
	if (rc == 0) sleep(number(a[3]));
	return 0;
}

static int c_socket(char **a)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	strncpy(address.sun_path, a[0], sizeof address.sun_path - 1);
	if (bind(fd, (struct sockaddr *)&address, sizeof address)) fail("bind");
	return puts("bound") < 0;
}

/* pattern PATH BYTES SEED: a file of any length whose bytes depend on the seed. */
static int c_pattern(char **a)
{
	static uint64_t block[65536 / 8];
	long bytes = number(a[1]), seed = number(a[2]);
	int fd = opened(a[0], O_WRONLY | O_CREAT | O_TRUNC);
	for (long at = 0; at < bytes; at += sizeof block) {
		fill(block, sizeof block, seed * 1000003 + at);
		write_all(fd, block, bytes - at < (long)sizeof block ? bytes - at : (long)sizeof block, at);
	}
	if (close(fd)) fail("close");
	return puts("written") < 0;
}

static int c_pattern_check(char **a)
{
	static uint64_t want[65536 / 8], have[65536 / 8];
	long bytes = number(a[1]), seed = number(a[2]);
	int fd = opened(a[0], O_RDONLY);
	for (long at = 0; at < bytes; at += sizeof want) {
		size_t n = bytes - at < (long)sizeof want ? bytes - at : (long)sizeof want;
		fill(want, sizeof want, seed * 1000003 + at);
		if (read_all(fd, have, n, at) != n) wrong("the file is too short", at);
		if (memcmp(want, have, n)) wrong("the file differs", at);
	}
	return puts("equal") < 0;
}

static void entry_name(char *out, const char *folder, long i) { snprintf(out, PAGE, "%s/entry-%06ld", folder, i); }

/* many FOLDER FIRST COUNT: empty files. mknod is one CREATE on the wire, without the OPEN around it. */
static int c_many(char **a)
{
	char name[PAGE];
	for (long i = number(a[1]), end = i + number(a[2]); i < end; i++) {
		entry_name(name, a[0], i);
		if (mknod(name, S_IFREG | 0644, 0)) fail(name);
	}
	return puts("made") < 0;
}

/* few FOLDER FIRST COUNT: removes what many made. */
static int c_few(char **a)
{
	char name[PAGE];
	for (long i = number(a[1]), end = i + number(a[2]); i < end; i++) {
		entry_name(name, a[0], i);
		if (unlink(name)) fail(name);
	}
	return puts("removed") < 0;
}

/* shrinking FOLDER: read the directory while others remove from it; no entry twice, none that many does not make. */
static int c_shrinking(char **a)
{
	static char found[10000000];
	long seen = 0;
	DIR *folder = opendir(a[0]);
	if (!folder) fail(a[0]);
	for (struct dirent *e; (errno = 0, e = readdir(folder)); seen++) {
		long i;
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
		if (sscanf(e->d_name, "entry-%ld", &i) != 1 || i < 0 || i >= (long)sizeof found) wrong("a name that was never made", seen);
		if (found[i]++) wrong("a name that is listed twice", i);
	}
	if (errno) fail("readdir");
	return printf("%ld\n", seen) < 0;
}

/* list FOLDER COUNT: readdir shows entry-000000 to COUNT-1, each once, and nothing else. */
static int c_list(char **a)
{
	long count = number(a[1]), seen = 0;
	char *found = calloc(count, 1);
	DIR *folder = opendir(a[0]);
	if (!folder) fail(a[0]);
	for (struct dirent *e; (errno = 0, e = readdir(folder));) {
		long i;
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
		if (sscanf(e->d_name, "entry-%ld", &i) != 1 || i < 0 || i >= count) wrong("a name that was never made", seen);
		if (found[i]++) wrong("a name that is listed twice", i);
		seen++;
	}
	if (errno) fail("readdir");
	if (seen != count) wrong("entries listed", seen);
	return printf("%ld\n", seen) < 0;
}

/* empty FOLDER: remove every entry while the same stream is being read; rewind until none is left. Prints how many, and in how many passes. */
static int c_empty(char **a)
{
	long removed = 0, passes = 0, before;
	DIR *folder = opendir(a[0]);
	if (!folder) fail(a[0]);
	do {
		before = removed;
		passes++;
		rewinddir(folder);
		for (struct dirent *e; (errno = 0, e = readdir(folder));) {
			if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
			if (unlinkat(dirfd(folder), e->d_name, 0)) fail(e->d_name);
			removed++;
		}
		if (errno) fail("readdir");
	} while (removed != before);
	return printf("%ld removed, %ld passes\n", removed, passes) < 0;
}

/* race FOLDER OTHER PROCESSES ROUNDS: in each round exactly one of the processes creates the file with O_EXCL. The two paths are
 * the same folder through two mounts, so that the kernel cannot settle it by itself. */
static int c_race(char **a)
{
	long processes = number(a[2]), rounds = number(a[3]);
	char name[PAGE];
	for (long r = 0; r < rounds; r++) {
		long winners = 0;
		for (long p = 0; p < processes; p++) {
			snprintf(name, sizeof name, "%s/race-%ld", a[p % 2], r);
			if (fork() == 0) {
				int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
				_exit(fd >= 0 ? 0 : errno == EEXIST ? 1 : 2);
			}
		}
		for (long p = 0; p < processes; p++) {
			int status;
			wait(&status);
			if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) wrong("an exclusive create failed otherwise than by EEXIST", r);
			winners += WEXITSTATUS(status) == 0;
		}
		if (winners != 1) wrong("winners of an exclusive create", winners);
	}
	return puts("one winner each") < 0;
}

/* mmap PATH PAGES: write through a shared mapping, msync; a page in the middle stays a hole. */
static int c_mmap(char **a)
{
	long pages = number(a[1]);
	int fd = opened(a[0], O_RDWR | O_CREAT | O_TRUNC);
	if (ftruncate(fd, pages * PAGE)) fail("ftruncate");
	char *map = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) fail("mmap");
	for (long i = 0; i < pages; i++)
		if (i != pages / 2) fill((uint64_t *)(map + i * PAGE), PAGE, i);
	if (msync(map, pages * PAGE, MS_SYNC)) fail("msync");
	if (munmap(map, pages * PAGE) || close(fd)) fail("munmap");
	return puts("synced") < 0;
}

static int c_mmap_check(char **a)
{
	long pages = number(a[1]);
	int fd = opened(a[0], O_RDONLY);
	char *map = mmap(NULL, pages * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED) fail("mmap");
	for (long i = 0; i < pages; i++) {
		if (i != pages / 2) check((uint64_t *)(map + i * PAGE), PAGE, i, "page differs");
		else for (long k = 0; k < PAGE; k++) if (map[i * PAGE + k]) wrong("the hole is not zero", k);
	}
	return puts("equal") < 0;
}

/* writers PATH PROCESSES RECORDS: processes write records of 1000 bytes (so that they share pages), interleaved, into one file. */
#define RECORD 1000
static int c_writers(char **a)
{
	long processes = number(a[1]), records = number(a[2]);
	uint64_t record[RECORD / 8];
	for (long p = 0; p < processes; p++) {
		if (fork() != 0) continue;
		int fd = opened(a[0], O_RDWR | O_CREAT);
		for (long i = p; i < records; i += processes) {
			fill(record, RECORD, i);
			write_all(fd, record, RECORD, (off_t)i * RECORD);
			if (i % 97 == 0 && fsync(fd)) fail("fsync");
		}
		_exit(close(fd) ? 1 : 0);
	}
	for (long p = 0; p < processes; p++) {
		int status;
		wait(&status);
		if (status != 0) wrong("a writer failed", status);
	}
	return puts("written") < 0;
}

static int c_writers_check(char **a)
{
	long records = number(a[1]);
	uint64_t record[RECORD / 8];
	int fd = opened(a[0], O_RDONLY);
	for (long i = 0; i < records; i++) {
		if (read_all(fd, record, RECORD, (off_t)i * RECORD) != RECORD) wrong("the file is too short", i);
		check(record, RECORD, i, "record differs");
	}
	return puts("equal") < 0;
}

/* appenders PATH PROCESSES LINES: O_APPEND from several processes of one client; no line may be lost or torn. */
static int c_appenders(char **a)
{
	long processes = number(a[1]), lines = number(a[2]);
	for (long p = 0; p < processes; p++) {
		if (fork() != 0) continue;
		int fd = opened(a[0], O_WRONLY | O_CREAT | O_APPEND);
		char line[64];
		for (long i = 0; i < lines; i++) {
			int n = snprintf(line, sizeof line, "process %ld line %06ld\n", p, i);
			if (write(fd, line, n) != n) fail("append");
		}
		_exit(close(fd) ? 1 : 0);
	}
	for (long p = 0; p < processes; p++) {
		int status;
		wait(&status);
		if (status != 0) wrong("an appender failed", status);
	}
	return puts("appended") < 0;
}

/* silly PATH: write, unlink while open, go on writing and reading; the name is gone, the data is not. */
static int c_silly(char **a)
{
	uint64_t block[PAGE / 8];
	struct stat s;
	int fd = opened(a[0], O_RDWR | O_CREAT | O_TRUNC);
	fill(block, PAGE, 1);
	write_all(fd, block, PAGE, 0);
	if (fsync(fd) || unlink(a[0])) fail("unlink");
	if (lstat(a[0], &s) == 0 || errno != ENOENT) wrong("the name is still there", 0);
	fill(block, PAGE, 2);
	write_all(fd, block, PAGE, PAGE);
	if (fsync(fd)) fail("fsync after unlink");
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	for (int i = 0; i < 2; i++) {
		if (read_all(fd, block, PAGE, i * PAGE) != PAGE) wrong("short read after unlink", i);
		check(block, PAGE, i + 1, "data differs after unlink");
	}
	if (fstat(fd, &s) || s.st_size != 2 * PAGE) wrong("size after unlink", s.st_size);
	if (close(fd)) fail("close");
	return puts("read after unlink") < 0;
}

/* load PATH LOG COUNT: append records with fsync after each; LOG (on the guest's own memory) holds how many were acknowledged. */
static int c_load(char **a)
{
	uint64_t block[PAGE / 8];
	int fd = opened(a[0], O_RDWR | O_CREAT), log = opened(a[1], O_WRONLY | O_CREAT | O_TRUNC);
	long count = number(a[2]);
	char text[32];
	for (long i = 0; i < count; i++) {
		fill(block, PAGE, i);
		write_all(fd, block, PAGE, (off_t)i * PAGE);
		if (fsync(fd)) fail("fsync");
		write_all(log, text, snprintf(text, sizeof text, "%08ld\n", i + 1), 0);
	}
	return puts("loaded") < 0;
}

static int c_load_check(char **a)
{
	uint64_t block[PAGE / 8];
	long count = number(a[1]);
	int fd = opened(a[0], O_RDONLY);
	for (long i = 0; i < count; i++) {
		if (read_all(fd, block, PAGE, (off_t)i * PAGE) != PAGE) wrong("an acknowledged record is not there", i);
		check(block, PAGE, i, "an acknowledged record differs");
	}
	return printf("%ld records equal\n", count) < 0;
}

/* churn FOLDER LOG COUNT: create, rename, remove in turn; LOG says how many rounds were acknowledged. Round i leaves "kept-i".
 * A call that the client repeats after the server's restart may find its own work done: EEXIST and ENOENT are that, churn-check judges. */
static void did(int rc, int repeated, const char *what)
{
	if (rc && errno != repeated) fail(what);
}

static int c_churn(char **a)
{
	char name[PAGE], other[PAGE], text[32];
	int log = opened(a[1], O_WRONLY | O_CREAT | O_TRUNC);
	long count = number(a[2]);
	for (long i = 0; i < count; i++) {
		snprintf(name, sizeof name, "%s/new-%ld", a[0], i);
		snprintf(other, sizeof other, "%s/kept-%ld", a[0], i);
		did(mknod(name, S_IFREG | 0600, 0), EEXIST, name);
		did(rename(name, other), ENOENT, other);
		snprintf(name, sizeof name, "%s/gone-%ld", a[0], i);
		did(mkdir(name, 0700), EEXIST, name);
		did(rmdir(name), ENOENT, name);
		write_all(log, text, snprintf(text, sizeof text, "%08ld\n", i + 1), 0);
	}
	return puts("churned") < 0;
}

static int c_churn_check(char **a)
{
	char name[PAGE];
	struct stat s;
	long count = number(a[1]);
	for (long i = 0; i < count; i++) {
		snprintf(name, sizeof name, "%s/kept-%ld", a[0], i);
		if (lstat(name, &s)) fail(name);
		snprintf(name, sizeof name, "%s/new-%ld", a[0], i);
		if (lstat(name, &s) == 0) wrong("the old name of an acknowledged rename is there", i);
		snprintf(name, sizeof name, "%s/gone-%ld", a[0], i);
		if (lstat(name, &s) == 0) wrong("a folder whose removal was acknowledged is there", i);
	}
	return printf("%ld rounds\n", count) < 0;
}

static const struct command {
	const char *name;
	int arguments;
	int (*run)(char **arguments);
} COMMANDS[] = {
	{ "mount", 3, c_mount }, { "stat", 1, c_stat }, { "utimens", 5, c_utimens }, { "errno", 2, c_errno }, { "socket", 1, c_socket },
	{ "pattern", 3, c_pattern }, { "pattern-check", 3, c_pattern_check }, { "many", 3, c_many }, { "few", 3, c_few }, { "shrinking", 1, c_shrinking }, { "list", 2, c_list }, { "empty", 1, c_empty }, { "race", 4, c_race },
	{ "mmap", 2, c_mmap }, { "mmap-check", 2, c_mmap_check }, { "writers", 3, c_writers }, { "writers-check", 2, c_writers_check },
	{ "appenders", 3, c_appenders }, { "silly", 1, c_silly }, { "load", 3, c_load }, { "load-check", 2, c_load_check },
	{ "lock", 6, c_lock }, { "getlk", 4, c_getlk }, { "flock", 4, c_flock }, { "churn", 3, c_churn }, { "churn-check", 2, c_churn_check },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof COMMANDS / sizeof *COMMANDS; i++)
		if (!strcmp(argv[1], COMMANDS[i].name) && argc - 2 >= COMMANDS[i].arguments) return COMMANDS[i].run(argv + 2);
	fprintf(stderr, "usage: guest COMMAND ARGUMENT…\n");
	return 2;
}
