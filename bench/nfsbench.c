/* A raw NFSv3 load generator over libnfs (Debian: libnfs-dev), so that every server gets the same calls.
 *
 *   nfsbench [-c connections] [-q calls in flight on each] [-s MiB] [-n files] [-p phase,phase…] URL
 *   URL: nfs://127.0.0.1/path?nfsport=N&mountport=M
 *
 * Works in a new directory of its own and removes the data file and the directory at the end (files too, when "remove" is among
 * the phases). Checks each status and count; in the sequential read every byte, in the random read the first and last eight.
 * Prints one JSON document: per phase the rate, and latencies in microseconds as a caller sees them with that many calls in
 * flight. Exit status 1 on any error.
 *
 *   write       sequential UNSTABLE writes of 256 KiB, then COMMIT (in the time)        MB/s
 *   read        sequential reads of the same                                            MB/s
 *   randwrite   4 KiB UNSTABLE at random places, then COMMIT (in the time)              calls/s
 *   randread    4 KiB at random places                                                  calls/s
 *   syncwrite   4 KiB FILE_SYNC at random places                                        calls/s
 *   create      empty files in one directory                                            calls/s
 *   getattr     of random files among them                                              calls/s
 *   lookup      of each by name                                                         calls/s
 *   list        the directory by READDIRPLUS on one connection, one call at a time      entries/s
 *   smallwrite  4 KiB FILE_SYNC into each file                                          calls/s
 *   remove      each file                                                               calls/s
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-nfs.h>

#define CONNECTIONS_MAX 64
#define HANDLE_MAX 64
#define SMALL 4096
#define LARGE 262144
#define RANDOM_CALLS_MAX 40000
#define ERRORS_TOLD_MAX 5

struct root_fh {
	int len;
	char *val;
};
/* Exported by the library, declared in none of its headers. */
extern const struct root_fh *nfs_get_rootfh(struct nfs_context *);

struct handle {
	unsigned int len;
	char val[HANDLE_MAX];
};

enum op { WRITE_SEQ, READ_SEQ, WRITE_RANDOM, READ_RANDOM, COMMIT_ALL, CREATE_FILE, GETATTR, LOOKUP, LIST, WRITE_SMALL, REMOVE_FILE };

struct call {
	int connection;
	long index;
	uint64_t offset;
	double start;
	char *data;
};

static int connections = 4, depth = 16;
static long mib = 512, files = 20000;
static struct nfs_context *contexts[CONNECTIONS_MAX];
static struct handle root, directory, data_file, *handles;
static uint64_t file_bytes;

/* The phase that runs. */
static enum op op;
static uint32_t io_bytes;
static int stable;
static long total, issued, finished, errors, calls_made;
static float *latencies;

/* READDIRPLUS goes on where the last reply ended. */
static uint64_t list_cookie;
static char list_verifier[NFS3_COOKIEVERFSIZE];
static long listed;
static int list_end;

static void die(const char *what)
{
	fprintf(stderr, "nfsbench: %s\n", what);
	exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static uint64_t random_number(void)
{
	static uint64_t x = 88172645463325252ULL;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

static uint64_t word_at(uint64_t offset) { return offset * 0x9E3779B97F4A7C15ULL; }

static void fill(char *data, uint64_t offset, uint32_t n)
{
	for (uint32_t i = 0; i + 8 <= n; i += 8) {
		uint64_t word = word_at(offset + i);
		memcpy(data + i, &word, 8);
	}
}

static int same(const char *data, uint64_t offset, uint32_t n, uint32_t step)
{
	for (uint32_t i = 0; i + 8 <= n; i += step) {
		uint64_t word = word_at(offset + i);
		if (memcmp(data + i, &word, 8)) return 0;
	}
	return 1;
}

static void keep_handle(struct handle *to, const nfs_fh3 *from)
{
	if (from->data.data_len > HANDLE_MAX) die("a file handle of more than 64 bytes");
	to->len = from->data.data_len;
	memcpy(to->val, from->data.data_val, to->len);
}

static nfs_fh3 as_fh(struct handle *h)
{
	nfs_fh3 fh;
	fh.data.data_len = h->len;
	fh.data.data_val = h->val;
	return fh;
}

static void report(const char *what, long index, int status)
{
	if (++errors <= ERRORS_TOLD_MAX) fprintf(stderr, "nfsbench: %s: call %ld, status %d\n", what, index, status);
}

static void check_read(const READ3resok *ok, const struct call *c)
{
	uint32_t step = op == READ_SEQ ? 8 : io_bytes - 8;
	if (ok->count != io_bytes) report("short read", c->index, ok->count);
	else if (!same(ok->data.data_val, c->offset, io_bytes, step)) report("wrong data", c->index, 0);
}

static void take_list(const READDIRPLUS3resok *ok)
{
	memcpy(list_verifier, ok->cookieverf, sizeof list_verifier);
	list_end = ok->reply.eof;
	for (const entryplus3 *e = ok->reply.entries; e; e = e->nextentry) {
		list_cookie = e->cookie;
		if (e->name[0] == 'f') listed++;
	}
	total += !list_end;
}

static void take(void *result, const struct call *c)
{
	/* Every NFSv3 result starts with its status. */
	nfsstat3 status = *(nfsstat3 *)result;
	if (status != NFS3_OK) {
		report("error", c->index, status);
		return;
	}
	switch (op) {
	case WRITE_SEQ: case WRITE_RANDOM: case WRITE_SMALL:
		if (((WRITE3res *)result)->WRITE3res_u.resok.count != io_bytes) report("short write", c->index, 0);
		break;
	case READ_SEQ: case READ_RANDOM:
		check_read(&((READ3res *)result)->READ3res_u.resok, c);
		break;
	case CREATE_FILE:
		if (!((CREATE3res *)result)->CREATE3res_u.resok.obj.handle_follows) die("CREATE returned no handle");
		keep_handle(&handles[c->index], &((CREATE3res *)result)->CREATE3res_u.resok.obj.post_op_fh3_u.handle);
		break;
	case LIST:
		take_list(&((READDIRPLUS3res *)result)->READDIRPLUS3res_u.resok);
		break;
	default:
		break;
	}
}

static void issue(int connection);

static void answered(struct rpc_context *rpc, int status, void *result, void *private)
{
	struct call *c = private;
	(void)rpc;
	latencies[c->index] = (now() - c->start) * 1e6;
	finished++;
	if (status != RPC_STATUS_SUCCESS) report("no answer", c->index, status);
	else take(result, c);
	int connection = c->connection;
	free(c->data);
	free(c);
	issue(connection);
}

static int send_write(struct rpc_context *rpc, struct call *c, struct handle *file)
{
	WRITE3args a = { 0 };
	c->data = malloc(io_bytes);
	fill(c->data, c->offset, io_bytes);
	a.file = as_fh(file);
	a.offset = c->offset;
	a.count = io_bytes;
	a.stable = stable;
	a.data.data_len = io_bytes;
	a.data.data_val = c->data;
	return rpc_nfs3_write_async(rpc, answered, &a, c);
}

static int send_read(struct rpc_context *rpc, struct call *c)
{
	READ3args a = { 0 };
	a.file = as_fh(&data_file);
	a.offset = c->offset;
	a.count = io_bytes;
	return rpc_nfs3_read_async(rpc, answered, &a, c);
}

static int send_list(struct rpc_context *rpc, struct call *c)
{
	READDIRPLUS3args a = { 0 };
	a.dir = as_fh(&directory);
	a.cookie = list_cookie;
	memcpy(a.cookieverf, list_verifier, sizeof list_verifier);
	a.dircount = 16384;
	a.maxcount = 65536;
	return rpc_nfs3_readdirplus_async(rpc, answered, &a, c);
}

static int send_named(struct rpc_context *rpc, struct call *c)
{
	char name[32];
	snprintf(name, sizeof name, "f%08ld", c->index);
	if (op == CREATE_FILE) {
		CREATE3args a = { 0 };
		a.where.dir = as_fh(&directory);
		a.where.name = name;
		a.how.mode = UNCHECKED;
		a.how.createhow3_u.obj_attributes.mode.set_it = 1;
		a.how.createhow3_u.obj_attributes.mode.set_mode3_u.mode = 0644;
		return rpc_nfs3_create_async(rpc, answered, &a, c);
	}
	if (op == LOOKUP) {
		LOOKUP3args a = { 0 };
		a.what.dir = as_fh(&directory);
		a.what.name = name;
		return rpc_nfs3_lookup_async(rpc, answered, &a, c);
	}
	REMOVE3args a = { 0 };
	a.object.dir = as_fh(&directory);
	a.object.name = name;
	return rpc_nfs3_remove_async(rpc, answered, &a, c);
}

static int send_call(struct rpc_context *rpc, struct call *c)
{
	switch (op) {
	case WRITE_SEQ: case READ_SEQ:
		c->offset = (uint64_t)c->index * io_bytes;
		break;
	case WRITE_RANDOM: case READ_RANDOM:
		c->offset = random_number() % (file_bytes / io_bytes) * io_bytes;
		break;
	default:
		break;
	}
	switch (op) {
	case WRITE_SEQ: case WRITE_RANDOM:
		return send_write(rpc, c, &data_file);
	case WRITE_SMALL:
		return send_write(rpc, c, &handles[c->index]);
	case READ_SEQ: case READ_RANDOM:
		return send_read(rpc, c);
	case COMMIT_ALL: {
		COMMIT3args a = { 0 };
		a.file = as_fh(&data_file);
		return rpc_nfs3_commit_async(rpc, answered, &a, c);
	}
	case GETATTR: {
		GETATTR3args a = { 0 };
		a.object = as_fh(&handles[random_number() % files]);
		return rpc_nfs3_getattr_async(rpc, answered, &a, c);
	}
	case LIST:
		return send_list(rpc, c);
	default:
		return send_named(rpc, c);
	}
}

static void issue(int connection)
{
	if (issued >= total) return;
	struct call *c = calloc(1, sizeof *c);
	c->connection = connection;
	c->index = issued++;
	c->start = now();
	calls_made++;
	if (send_call(nfs_get_rpc_context(contexts[connection]), c)) die("a call could not be queued");
}

static void serve(void)
{
	struct pollfd p[CONNECTIONS_MAX];
	for (int i = 0; i < connections; i++) {
		p[i].fd = nfs_get_fd(contexts[i]);
		p[i].events = nfs_which_events(contexts[i]);
		p[i].revents = 0;
	}
	if (poll(p, connections, 120000) <= 0) die("no answer for 120 s");
	for (int i = 0; i < connections; i++)
		if (p[i].revents && nfs_service(contexts[i], p[i].revents) < 0) die("the connection was lost");
}

/* Run `count` calls of one kind; returns the seconds they took. */
static double run(enum op which, long count)
{
	double start = now();
	op = which;
	total = count;
	issued = finished = 0;
	for (int k = 0; k < depth; k++)
		for (int i = 0; i < connections; i++) issue(i);
	while (finished < total) serve();
	return now() - start;
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

static void print_phase(const char *name, const char *unit, double amount, long count, double seconds)
{
	static int printed;
	qsort(latencies, count, sizeof *latencies, compare);
	printf("%s{\"name\":\"%s\",\"unit\":\"%s\",\"rate\":%.1f,\"seconds\":%.3f,\"calls\":%ld,\"p50us\":%.0f,\"p90us\":%.0f,\"p99us\":%.0f,\"maxus\":%.0f}",
	       printed++ ? "," : "", name, unit, amount / seconds, seconds, count, latencies[count / 2], latencies[count * 9 / 10],
	       latencies[count * 99 / 100], latencies[count - 1]);
	fflush(stdout);
}

/* With latencies of the calls themselves: the COMMIT at the end counts in the time, not among them. */
static void data_phase(const char *name, enum op which, uint32_t bytes, int how, long count, int in_megabytes)
{
	io_bytes = bytes;
	stable = how;
	double seconds = run(which, count);
	if ((which == WRITE_SEQ || which == WRITE_RANDOM) && how == UNSTABLE) {
		float first = latencies[0];
		seconds += run(COMMIT_ALL, 1);
		latencies[0] = first;
	}
	print_phase(name, in_megabytes ? "MB/s" : "calls/s", in_megabytes ? (double)count * bytes / 1e6 : count, count, seconds);
}

static void list_phase(void)
{
	int kept_depth = depth, kept_connections = connections;
	depth = connections = 1;
	double seconds = run(LIST, 1);
	depth = kept_depth;
	connections = kept_connections;
	if (listed != files) report("wrong number of entries listed", listed, 0);
	print_phase("list", "entries/s", listed, finished, seconds);
}

static void phase(const char *name)
{
	long large = file_bytes / LARGE, small = file_bytes / SMALL / 4;
	if (small > RANDOM_CALLS_MAX) small = RANDOM_CALLS_MAX;
	if (!strcmp(name, "write")) data_phase(name, WRITE_SEQ, LARGE, UNSTABLE, large, 1);
	else if (!strcmp(name, "read")) data_phase(name, READ_SEQ, LARGE, 0, large, 1);
	else if (!strcmp(name, "randwrite")) data_phase(name, WRITE_RANDOM, SMALL, UNSTABLE, small, 0);
	else if (!strcmp(name, "randread")) data_phase(name, READ_RANDOM, SMALL, 0, small, 0);
	else if (!strcmp(name, "syncwrite")) data_phase(name, WRITE_RANDOM, SMALL, FILE_SYNC, small / 8, 0);
	else if (!strcmp(name, "create")) data_phase(name, CREATE_FILE, 0, 0, files, 0);
	else if (!strcmp(name, "getattr")) data_phase(name, GETATTR, 0, 0, files, 0);
	else if (!strcmp(name, "lookup")) data_phase(name, LOOKUP, 0, 0, files, 0);
	else if (!strcmp(name, "list")) list_phase();
	else if (!strcmp(name, "smallwrite")) data_phase(name, WRITE_SMALL, SMALL, FILE_SYNC, files, 0);
	else if (!strcmp(name, "remove")) data_phase(name, REMOVE_FILE, 0, 0, files, 0);
	else die("no such phase");
}

/* One call by itself, through the library's synchronous interface. */
static void must(int rc, const char *what)
{
	if (rc < 0) {
		fprintf(stderr, "nfsbench: %s: %s\n", what, nfs_get_error(contexts[0]));
		exit(1);
	}
}

static int looked_up;

static void set_up_answered(struct rpc_context *rpc, int status, void *result, void *private)
{
	LOOKUP3res *r = result;
	(void)rpc;
	if (status != RPC_STATUS_SUCCESS || r->status != NFS3_OK) die("the new directory or file is not found");
	keep_handle(private, &r->LOOKUP3res_u.resok.object);
	looked_up = 1;
}

static void look_up(struct handle *in, char *name, struct handle *out)
{
	LOOKUP3args a = { 0 };
	a.what.dir = as_fh(in);
	a.what.name = name;
	looked_up = 0;
	if (rpc_nfs3_lookup_async(nfs_get_rpc_context(contexts[0]), set_up_answered, &a, out)) die("a call could not be queued");
	while (!looked_up) serve();
}

static void connect_all(const char *text)
{
	for (int i = 0; i < connections; i++) {
		contexts[i] = nfs_init_context();
		struct nfs_url *url = nfs_parse_url_dir(contexts[i], text);
		if (!url || nfs_mount(contexts[i], url->server, url->path)) die(nfs_get_error(contexts[i]));
		nfs_destroy_url(url);
	}
	const struct root_fh *fh = nfs_get_rootfh(contexts[0]);
	root.len = fh->len;
	memcpy(root.val, fh->val, fh->len);
}

static void usage(void) { die("usage: nfsbench [-c connections] [-q depth] [-s MiB] [-n files] [-p phase,phase…] URL"); }

int main(int argc, char **argv)
{
	char standard[] = "write,read,randwrite,randread,syncwrite,create,getattr,lookup,smallwrite,remove", *phases = standard;
	for (int o; (o = getopt(argc, argv, "c:q:s:n:p:")) != -1;) {
		if (o == 'c') connections = atoi(optarg);
		else if (o == 'q') depth = atoi(optarg);
		else if (o == 's') mib = atol(optarg);
		else if (o == 'n') files = atol(optarg);
		else if (o == 'p') phases = optarg;
		else usage();
	}
	if (optind + 1 != argc || connections < 1 || connections > CONNECTIONS_MAX || depth < 1 || mib < 1 || files < 1) usage();

	file_bytes = (uint64_t)mib << 20;
	handles = calloc(files, sizeof *handles);
	long most = files > RANDOM_CALLS_MAX ? files : RANDOM_CALLS_MAX;
	latencies = calloc(most > mib * 4 ? most : mib * 4, sizeof *latencies);
	connect_all(argv[optind]);

	char name[64], path[80];
	snprintf(name, sizeof name, "bench-%ld-%d", (long)time(NULL), (int)getpid());
	snprintf(path, sizeof path, "/%s", name);
	must(nfs_mkdir(contexts[0], path), "mkdir");
	look_up(&root, name, &directory);
	snprintf(path, sizeof path, "/%s/data", name);
	struct nfsfh *made;
	must(nfs_creat(contexts[0], path, 0644, &made), "create");
	nfs_close(contexts[0], made);
	look_up(&directory, "data", &data_file);

	int removed = 0;
	printf("{\"connections\":%d,\"depth\":%d,\"mib\":%ld,\"files\":%ld,\"phases\":[", connections, depth, mib, files);
	for (char *p = strtok(phases, ","); p; p = strtok(NULL, ",")) {
		phase(p);
		removed = removed || !strcmp(p, "remove");
	}
	printf("],\"calls\":%ld,\"errors\":%ld}\n", calls_made, errors);

	must(nfs_unlink(contexts[0], path), "unlink");
	snprintf(path, sizeof path, "/%s", name);
	if (removed) must(nfs_rmdir(contexts[0], path), "rmdir");
	return errors != 0;
}
