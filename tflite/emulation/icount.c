/* icount.c - a QEMU plugin: guest instructions between marks. The guest marks by calling getppid(),
 * which a TFLite runtime never does. For single-threaded guests: the counter is not locked.
 *
 *   cc -O2 -shared -fPIC -o libicount.so icount.c
 *   qemu-arm -plugin libicount.so,out=FILE ...             one line, one number, a mark
 *   qemu-arm -plugin libicount.so,out=FILE,cache=1024 ...  and, ten times slower, what a cache of
 *       32 KiB in 4 ways and one of so many KiB in 16 ways behind it miss, both with lines of 64
 *       bytes that are written back, the least recently used first; and the bytes that go to and
 *       from memory. Neither instructions nor prefetching are modelled.
 *
 * Declares the few functions of plugin API version 1 it uses, as Debian packages no qemu-plugin.h. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct block;
struct info {
    const char *target;
    struct { int min, current; } version;
    bool system;
    int cpus, max_cpus;
};
typedef void on_block(plugin_id, struct block *);
typedef void on_syscall(plugin_id, unsigned cpu, int64_t number, uint64_t, uint64_t, uint64_t,
                        uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
typedef void on_access(unsigned cpu, uint32_t what, uint64_t address, void *);
enum { ADD_U64 };
enum { NO_REGISTERS = 0, READS_AND_WRITES = 3 };
enum { GETPPID_ARM = 64, GETPPID_AARCH64 = 173 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, on_block *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct block *, int op, void *, uint64_t);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, on_syscall *);
extern size_t qemu_plugin_tb_n_insns(const struct block *);
extern struct instruction *qemu_plugin_tb_get_insn(const struct block *, size_t);
extern void qemu_plugin_register_vcpu_mem_cb(struct instruction *, on_access *, int registers,
                                             int what, void *);
extern bool qemu_plugin_mem_is_store(uint32_t what);
extern unsigned qemu_plugin_mem_size_shift(uint32_t what);

int qemu_plugin_version = 1;
static uint64_t count, last;
static int64_t mark;
static FILE *out;

enum { LINE = 6, L1_KIB = 32, L1_WAYS = 4, L2_WAYS = 16 };
struct line { uint64_t number; bool dirty, used; };
struct cache { size_t sets, ways; struct line *lines; uint64_t misses; };
static struct cache l1, l2;
static uint64_t transfers; /* lines from and to memory */

static bool make(struct cache *cache, size_t kib, size_t ways)
{
    cache->sets = (kib << 10 >> LINE) / ways;
    cache->ways = ways;
    cache->lines = calloc(cache->sets * ways, sizeof *cache->lines);
    return cache->sets && cache->lines;
}

/* The line, moved to the front of its set; a line that is not there takes the place of the last,
 * which is returned in *gone. */
static struct line *find(struct cache *cache, uint64_t number, struct line *gone)
{
    struct line *set = cache->lines + number % cache->sets * cache->ways, found;
    size_t way = 0;
    while (way < cache->ways - 1 && !(set[way].used && set[way].number == number))
        way++;
    found = set[way];
    gone->used = false;
    if (!found.used || found.number != number) {
        *gone = found;
        found = (struct line){number, false, true};
        cache->misses++;
    }
    memmove(set + 1, set, way * sizeof *set);
    set[0] = found;
    return set;
}

static void second(uint64_t number, bool store)
{
    struct line gone, *line;
    uint64_t before = l2.misses;
    line = find(&l2, number, &gone);
    line->dirty |= store;
    /* What the first cache writes back whole need not be read. */
    transfers += (l2.misses > before && !store) + (gone.used && gone.dirty);
}

static void accessed(unsigned cpu, uint32_t what, uint64_t address, void *unused)
{
    bool store = qemu_plugin_mem_is_store(what);
    uint64_t stop = address + ((uint64_t)1 << qemu_plugin_mem_size_shift(what));
    for (uint64_t number = address >> LINE; number << LINE < stop; number++) {
        struct line gone, *line;
        uint64_t before = l1.misses;
        line = find(&l1, number, &gone);
        line->dirty |= store;
        if (l1.misses > before)
            second(number, false);
        if (gone.used && gone.dirty)
            second(gone.number, true);
    }
}

static void translated(plugin_id id, struct block *block)
{
    for (size_t i = 0; l2.lines && i < qemu_plugin_tb_n_insns(block); i++)
        qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(block, i), accessed, NO_REGISTERS,
                                         READS_AND_WRITES, NULL);
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &count, qemu_plugin_tb_n_insns(block));
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c,
                   uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    if (number != mark)
        return;
    fprintf(out, "%llu", (unsigned long long)(count - last));
    if (l2.lines)
        fprintf(out, " %llu %llu %llu", (unsigned long long)l1.misses,
                (unsigned long long)l2.misses, (unsigned long long)transfers << LINE);
    fprintf(out, "\n");
    fflush(out); /* what was counted before a crash is kept */
    last = count;
    l1.misses = l2.misses = transfers = 0;
}

int qemu_plugin_install(plugin_id id, const struct info *info, int argc, char **argv)
{
    if (argc < 1 || argc > 2 || strncmp(argv[0], "out=", 4) || !(out = fopen(argv[0] + 4, "w"))) {
        fprintf(stderr, "icount: expected out=FILE, a file that can be written\n");
        return -1;
    }
    if (argc == 2 && (strncmp(argv[1], "cache=", 6) || !make(&l1, L1_KIB, L1_WAYS) ||
                      !make(&l2, strtoul(argv[1] + 6, NULL, 10), L2_WAYS))) {
        fprintf(stderr, "icount: expected cache=KIB, such as cache=1024, got %s\n", argv[1]);
        return -1;
    }
    mark = strcmp(info->target, "aarch64") ? GETPPID_ARM : GETPPID_AARCH64;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
