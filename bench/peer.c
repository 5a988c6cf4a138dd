/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads, writes, copies and chases memory in plain C: what numad-py calibrate is held against.
 *
 *     peer MEGABYTES CPU...
 *
 * For each line on stdin (read, write, copy, chase) it does that for a moment, with one thread on each CPU
 * but for chase, which the first CPU does, and prints GB/s (10^9 bytes), or nanoseconds for one step.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define WINDOW_S 0.02

enum { LINE = 8, CHUNK = 1 << 20, STEPS = 200000, MOST_CPUS = 1024 };

static uint64_t *stream, *chain, at, sums[MOST_CPUS * LINE];
static double rates[MOST_CPUS * LINE];
static size_t words;
static long cpus[MOST_CPUS];
static int threads;
static char word[16];
static pthread_barrier_t begin, end;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void pin(long cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set)) {
		perror("sched_setaffinity");
		exit(1);
	}
}

static uint64_t *take(void)
{
	uint64_t *memory = mmap(NULL, words * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	madvise(memory, words * 8, MADV_HUGEPAGE);
	memset(memory, 1, words * 8);
	return memory;
}

/* One cycle through all lines: each is swapped with one before it. */
static void link_lines(void)
{
	uint64_t random = 88172645463325252ULL, other, held;

	for (size_t line = 0; line < words / LINE; line++)
		chain[line * LINE] = line * LINE;
	for (size_t line = words / LINE - 1; line > 0; line--) {
		random ^= random << 13, random ^= random >> 7, random ^= random << 17;
		other = random % line;
		held = chain[line * LINE];
		chain[line * LINE] = chain[other * LINE];
		chain[other * LINE] = held;
	}
}

static void touch(uint64_t *mine, size_t count, int thread)
{
	size_t half = count / 2;
	uint64_t sum = 0, value = sums[0];

	if (!strcmp(word, "read")) {
		for (size_t i = 0; i < count; i++)
			sum += mine[i];
		sums[thread * LINE] = sum;
	} else if (!strcmp(word, "write")) {
		for (size_t i = 0; i < count; i++)
			mine[i] = value;
	} else {
		for (size_t i = 0; i < half; i++)
			mine[i] = mine[half + i];
	}
}

/* Goes round and round through its own part, until the time is over. */
static double rate(int thread)
{
	size_t own = words / threads / CHUNK * CHUNK, done = 0;
	double began = now();

	do {
		touch(stream + own * thread + done % own, CHUNK, thread);
		done += CHUNK;
	} while (now() < began + WINDOW_S);
	return done * 8 / (now() - began) / 1e9;
}

static void *worker(void *thread)
{
	pin(cpus[(long)thread]);
	for (;;) {
		pthread_barrier_wait(&begin);
		rates[(long)thread * LINE] = rate((long)thread);
		pthread_barrier_wait(&end);
	}
	return NULL;
}

static double gb_per_s(void)
{
	double sum = 0;

	pthread_barrier_wait(&begin);
	pthread_barrier_wait(&end);
	for (int thread = 0; thread < threads; thread++)
		sum += rates[thread * LINE];
	return sum;
}

static double step_ns(void)
{
	double began = now();
	uint64_t here = at;

	for (int step = 0; step < STEPS; step++)
		here = chain[here];
	at = here;
	return (now() - began) / STEPS * 1e9;
}

int main(int count, char **arguments)
{
	pthread_t one;

	threads = count - 2;
	if (threads < 1 || threads > MOST_CPUS)
		return 2;
	words = strtoul(arguments[1], NULL, 10) << 17;
	if (words / threads < CHUNK)
		return 2;
	for (int i = 0; i < threads; i++)
		cpus[i] = strtol(arguments[i + 2], NULL, 10);
	pin(cpus[0]);
	stream = take();
	chain = take();
	link_lines();
	pthread_barrier_init(&begin, NULL, threads + 1);
	pthread_barrier_init(&end, NULL, threads + 1);
	for (long i = 0; i < threads; i++)
		pthread_create(&one, NULL, worker, (void *)i);
	while (scanf("%15s", word) == 1) {
		printf("%.3f\n", strcmp(word, "chase") ? gb_per_s() : step_ns());
		fflush(stdout);
	}
	return 0;
}
