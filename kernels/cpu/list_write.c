/* Entries into pages, many at a time on several threads: no two share a byte. Twin and inner loop:
 * ref/list_write.c. Floor: a cache line written for each byte of a code. */
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"

enum { TASK_ROWS = 512 };

static void write_task(void *context, uint32_t task, uint32_t worker)
{
    const struct sac_list_write_args *a = context;
    size_t first = (size_t)task * TASK_ROWS;
    struct sac_list_write_args some = *a;

    (void)worker;
    some.n = a->n - first < TASK_ROWS ? a->n - first : TASK_ROWS;
    some.codes = a->codes + first * a->pq.m;
    some.bias = a->bias + first;
    some.factors = a->pq.factors ? a->factors + first : NULL;
    some.slots = a->slots + first;
    some.positions = a->positions + first;
    (void)sac_list_write_ref(NULL, &some);
}

sac_status sac_list_write_cpu(sac_stream *s, const struct sac_list_write_args *a)
{
    struct sac_list_write_args args = *a;

    sac_parallel_for(s, (uint32_t)((a->n + TASK_ROWS - 1) / TASK_ROWS), write_task, &args);
    return SAC_OK;
}
