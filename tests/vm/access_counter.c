/* SPDX-License-Identifier: Apache-2.0
 *
 * Counts the accesses of user space that miss a small cache, by virtual CPU and by 2 MiB of the guest's memory.
 *
 * A plugin for QEMU's emulator TCG, built and loaded by tests/vm/guest.py:
 *
 *     qemu-system-x86_64 -plugin access_counter.so,counts=FILE,blocks=N ...
 *
 * FILE is made anew: for each virtual CPU a row of N + 1 counts of 64 bits in the host's byte order. Count b of a row
 * is of the b-th 2 MiB by QEMU's numbers (tests/vm/access_counts.py says which node has which), the last of all that
 * is elsewhere. QEMU counts in a shared mapping of FILE, so that whoever reads it, on the host or over 9p in the
 * guest, finds it as it is at that moment. Counts only ever grow.
 *
 * The cache is one per virtual CPU, direct-mapped by virtual address, of 64-byte lines, 1 MiB in all: after a switch,
 * processes of like addresses, such as forked ones, can find each other's lines. An access that crosses a line counts
 * as one of its first line. User space is what runs at addresses below 2^63: firmware and the first moments of a
 * booting kernel do so too.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Debian ships no qemu-plugin.h: these are version 1 of the interface, as in QEMU 7.2's include/qemu/qemu-plugin.h. */

#define EXPORT __attribute__((visibility("default")))

typedef struct {
    const char *target_name;
    struct {
        int min;
        int cur;
    } version;
    bool system_emulation;
    struct {
        int smp_vcpus;
        int max_vcpus;
    } system;
} qemu_info_t;

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_hwaddr;
struct qemu_plugin_insn;
struct qemu_plugin_tb;

enum { QEMU_PLUGIN_CB_NO_REGS = 0 };
enum { QEMU_PLUGIN_MEM_RW = 3 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t,
                                           void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *,
                                      void (*)(unsigned int, qemu_plugin_meminfo_t, uint64_t, void *), int, int,
                                      void *);
struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(qemu_plugin_meminfo_t, uint64_t);
bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr *);
uint64_t qemu_plugin_hwaddr_phys_addr(const struct qemu_plugin_hwaddr *);

EXPORT int qemu_plugin_version = 1;

enum { LINE_SHIFT = 6, BLOCK_SHIFT = 21, LINES = 16384 };

struct cache {
    uint64_t line[LINES]; /* 0 is of no process: vm.mmap_min_addr keeps the first page free */
};

static struct cache *caches; /* by virtual CPU */
static uint64_t *counts;     /* by virtual CPU, then by block */
static uint64_t blocks;

static uint64_t block_of(qemu_plugin_meminfo_t info, uint64_t address)
{
    struct qemu_plugin_hwaddr *found = qemu_plugin_get_hwaddr(info, address);
    uint64_t block;

    if (!found || qemu_plugin_hwaddr_is_io(found))
        return blocks;
    block = qemu_plugin_hwaddr_phys_addr(found) >> BLOCK_SHIFT;
    return block < blocks ? block : blocks;
}

static void on_access(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *unused)
{
    uint64_t line = address >> LINE_SHIFT;
    uint64_t *cached = &caches[cpu].line[line % LINES];
    uint64_t *count;

    (void)unused;
    if (*cached == line)
        return;
    *cached = line;
    count = &counts[cpu * (blocks + 1) + block_of(info, address)];
    /* A row has one writer, the thread of its CPU; the store is whole for who reads the file meanwhile. */
    __atomic_store_n(count, *count + 1, __ATOMIC_RELAXED);
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    if (qemu_plugin_tb_vaddr(tb) >> 63) /* the kernel */
        return;
    for (size_t index = 0; index < qemu_plugin_tb_n_insns(tb); index++)
        qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, index), on_access, QEMU_PLUGIN_CB_NO_REGS,
                                         QEMU_PLUGIN_MEM_RW, NULL);
}

static uint64_t *map_counts(const char *path, size_t bytes)
{
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    void *memory = MAP_FAILED;

    if (file >= 0 && ftruncate(file, (off_t)bytes) == 0)
        memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED)
        fprintf(stderr, "access_counter: %s: %s\n", path, strerror(errno));
    if (file >= 0)
        close(file);
    return memory == MAP_FAILED ? NULL : memory;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    const char *path = NULL;
    size_t cpus;

    for (int index = 0; index < argc; index++)
        if (strncmp(argv[index], "counts=", 7) == 0)
            path = argv[index] + 7;
        else if (strncmp(argv[index], "blocks=", 7) == 0)
            blocks = strtoull(argv[index] + 7, NULL, 10);
    if (!info->system_emulation || !path || !blocks) {
        fprintf(stderr, "access_counter: needs a whole machine, counts=FILE and blocks=N\n");
        return 1;
    }
    cpus = (size_t)info->system.max_vcpus;
    counts = map_counts(path, cpus * (blocks + 1) * sizeof(*counts));
    caches = calloc(cpus, sizeof(*caches));
    if (!counts || !caches)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    return 0;
}
