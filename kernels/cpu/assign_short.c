/* Nearest centroids of short rows, such as those that a product quantizer's codewords are learnt from: what
 * pq_encode finds with one sub-quantizer, on tiles (pq_encode_amx.c). Twin: ref/assign.c. */
#include "kernels/cpu/assign.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/pq_encode_tiles.h"

enum { K_MAX = 256, TASK_ROWS = 1024 };

/* Codes are put where the first quarter of the indices goes. */
static struct sac_pq_encode_args encode_args(const struct sac_assign_args *a)
{
    return (struct sac_pq_encode_args){.pq = {.m = 1, .nbits = (uint32_t)__builtin_ctz(a->k), .dsub = a->dim},
                                       .codebook = a->centroids,
                                       .x = a->x,
                                       .n = a->n,
                                       .codes = (uint8_t *)a->index};
}

bool sac_assign_short_pays(const struct sac_assign_args *a)
{
    struct sac_pq_encode_args encode;

    if (a->k == 0 || (a->k & (a->k - 1)) != 0 || a->k > K_MAX)
        return false;
    encode = encode_args(a);
    return sac_pq_encode_tiles_pay(&encode);
}

size_t sac_assign_short_scratch(const sac_device *d, const struct sac_assign_args *a)
{
    struct sac_pq_encode_args encode = encode_args(a);

    return sac_pq_encode_scratch_amx(d, &encode);
}

static void distances_task(void *context, uint32_t task, uint32_t worker)
{
    const struct sac_assign_args *a = context;
    size_t first = (size_t)task * TASK_ROWS, left = a->n - first;

    (void)worker;
    sac_assign_distances(a, &sac_rows_avx512, first, left < TASK_ROWS ? (uint32_t)left : TASK_ROWS);
}

sac_status sac_assign_short(sac_stream *s, const struct sac_assign_args *a)
{
    struct sac_pq_encode_args encode = encode_args(a);
    struct sac_assign_args args = *a;
    sac_status st = sac_pq_encode_amx(s, &encode);

    if (st != SAC_OK)
        return st;
    for (size_t i = a->n; i-- > 0;) /* no index lies where a code is that is still needed */
        a->index[i] = encode.codes[i];
    if (a->distance != NULL)
        sac_parallel_for(s, (uint32_t)((a->n + TASK_ROWS - 1) / TASK_ROWS), distances_task, &args);
    return SAC_OK;
}
