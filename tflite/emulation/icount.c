/* icount.c - a QEMU plugin: guest instructions between marks. The guest marks by calling getppid(),
 * which a TFLite runtime never does. For single-threaded guests: the counter is not locked.
 *
 *   cc -O2 -shared -fPIC -o libicount.so icount.c
 *   qemu-arm -plugin libicount.so,out=FILE ...        one line, one number, a mark
 *
 * Declares the few functions of plugin API version 1 it uses, as Debian packages no qemu-plugin.h. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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
enum { ADD_U64 };
enum { GETPPID_ARM = 64, GETPPID_AARCH64 = 173 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, on_block *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct block *, int op, void *, uint64_t);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, on_syscall *);
extern size_t qemu_plugin_tb_n_insns(const struct block *);

int qemu_plugin_version = 1;
static uint64_t count, last;
static int64_t mark;
static FILE *out;

static void translated(plugin_id id, struct block *block)
{
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &count, qemu_plugin_tb_n_insns(block));
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c,
                   uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    if (number != mark)
        return;
    fprintf(out, "%llu\n", (unsigned long long)(count - last));
    fflush(out); /* what was counted before a crash is kept */
    last = count;
}

int qemu_plugin_install(plugin_id id, const struct info *info, int argc, char **argv)
{
    if (argc != 1 || strncmp(argv[0], "out=", 4) || !(out = fopen(argv[0] + 4, "w"))) {
        fprintf(stderr, "icount: expected out=FILE, a file that can be written\n");
        return -1;
    }
    mark = strcmp(info->target, "aarch64") ? GETPPID_ARM : GETPPID_AARCH64;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
