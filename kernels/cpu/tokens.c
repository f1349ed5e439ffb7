/* tokens.c -- the twin, a picture a task: additions that the compiler vectorises, bound by memory. */
#include "kernels/cpu/cpu.h"

static void add_rows(const float *a, const float *b, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = a[i] + b[i];
}

static void task_run(void *context, uint32_t task, uint32_t worker)
{
    const struct sac_tokens_args *a = context;
    size_t prefix = (size_t)a->prefix_count * a->width, patches = (size_t)a->patch_count * a->width;
    float *out = a->out + task * (prefix + patches);

    (void)worker;
    add_rows(a->prefix, a->position, prefix, out);
    add_rows(a->patches + task * patches, a->position + prefix, patches, out + prefix);
}

sac_status sac_tokens_cpu(sac_stream *s, const struct sac_tokens_args *a)
{
    sac_parallel_for(s, (uint32_t)a->n, task_run, (void *)a);
    return SAC_OK;
}
