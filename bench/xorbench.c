// Parity by ISA-L's xor_gen, as the parity kernel is measured (bench/raid/kernel.ts): stripes of SOURCES chunks and their parity, one
// behind the other in memory, worked through again and again.
//
//   xorbench CHUNK_BYTES SOURCES STRIPES MILLISECONDS
//
// Prints bytes of the sources a second of this process's CPU time: what other programs do on a shared machine is not in it.
#include <isa-l/raid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SOURCES_MAX 32

static double cpu_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static char *memory;
static size_t chunk_bytes, stripes, next_stripe;
static int sources;

static void one_stripe(void) {
  void *chunks[SOURCES_MAX + 1];
  char *start = memory + next_stripe * chunk_bytes * (size_t)(sources + 1);
  for (int i = 0; i <= sources; i++) chunks[i] = start + (size_t)i * chunk_bytes;
  if (xor_gen(sources + 1, (int)chunk_bytes, chunks) != 0) exit(1);
  if (++next_stripe == stripes) next_stripe = 0;
}

static double rate(double seconds) {
  double start = cpu_seconds(), now;
  size_t done = 0;
  do {
    for (int i = 0; i < 256; i++) one_stripe();
    done += 256;
    now = cpu_seconds();
  } while (now - start < seconds);
  return (double)(done * chunk_bytes) * sources / (now - start);
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  chunk_bytes = strtoul(argv[1], NULL, 10);
  sources = atoi(argv[2]);
  stripes = strtoul(argv[3], NULL, 10);
  double seconds = atof(argv[4]) / 1000;
  size_t bytes = chunk_bytes * (size_t)(sources + 1) * stripes;
  if (sources < 2 || sources > SOURCES_MAX || bytes == 0) return 2;
  if (posix_memalign((void **)&memory, 4096, bytes) != 0) return 1;
  for (size_t i = 0; i < bytes; i += 8) *(size_t *)(memory + i) = i * 0x9e3779b97f4a7c15u;
  rate(seconds / 4);
  printf("%.0f\n", rate(seconds));
  return 0;
}
