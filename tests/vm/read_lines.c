/* SPDX-License-Identifier: Apache-2.0
 *
 * A job that makes a known number of accesses: reads every 64-byte line of its memory, again and again.
 *
 *     read_lines KIB CPU...
 *
 * One thread for each CPU named, bound to it, reads its own equal part of one private array. The main thread touches
 * the array first, so that taskset and numactl say where it is. It tells `ready START END` (hexadecimal) on stdout,
 * then obeys lines on stdin: a number is how many passes to make, answered with `done`. The end of stdin ends it.
 *
 * Threads wait for each other after each pass, and are busy while they wait: so they make equally many accesses and
 * use equally much CPU time, even where the host gives one emulated CPU less than another. All else that the job does
 * while passing is a few hundred accesses.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LINE_BYTES = 64, CPUS = 64 };

struct part {
    pthread_t thread;
    int threads;
    int cpu;
    const volatile char *start, *end;
    int passes;
};

static atomic_int arrived; /* threads at the end of a pass, of all passes of this turn */

static void *read_part(void *argument)
{
    const struct part *part = argument;
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET(part->cpu, &cpus);
    if (pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus))
        abort();
    for (int pass = 1; pass <= part->passes; pass++) {
        for (const volatile char *line = part->start; line < part->end; line += LINE_BYTES)
            (void)*line;
        atomic_fetch_add(&arrived, 1);
        while (atomic_load(&arrived) < pass * part->threads)
            ;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    size_t bytes = argc > 1 ? (size_t)atoi(argv[1]) << 10 : 0;
    int threads = argc - 2;
    struct part parts[CPUS];
    int passes;
    char *memory;

    if (threads < 1 || threads > CPUS || !bytes) {
        fprintf(stderr, "usage: read_lines KIB CPU...\n");
        return 2;
    }
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 1;
    memset(memory, 1, bytes);
    printf("ready %lx %lx\n", (unsigned long)memory, (unsigned long)memory + bytes);
    fflush(stdout);
    while (scanf("%d", &passes) == 1) {
        arrived = 0;
        for (int index = 0; index < threads; index++) {
            parts[index] = (struct part){.threads = threads,
                                         .cpu = atoi(argv[2 + index]),
                                         .start = memory + bytes / threads * index,
                                         .end = memory + bytes / threads * (index + 1),
                                         .passes = passes};
            if (pthread_create(&parts[index].thread, NULL, read_part, &parts[index]))
                abort();
        }
        for (int index = 0; index < threads; index++)
            pthread_join(parts[index].thread, NULL);
        puts("done");
        fflush(stdout);
    }
    return 0;
}
