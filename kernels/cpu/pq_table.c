/* One table per query. Twin: ref/pq_table.c. Floor: 2^nbits * dim multiplications a query with a codebook
 * that stays in cache, so folding sums across lanes is what costs; short codewords share registers
 * (pq_avx*.c), long ones go through the row kernels. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/pq.h"

struct table {
    const struct sac_pq_table_args *args;
    const struct sac_pq_kernels *kernels;
};

static void long_row(const struct table *t, const float *codewords, uint32_t count, const float *sub,
                     float *out)
{
    enum { GROUP = 64 };
    uint32_t dsub = t->args->pq.dsub;

    for (uint32_t first = 0; first < count; first += GROUP) {
        const void *rows[GROUP];
        uint32_t n = count - first < GROUP ? count - first : GROUP;

        for (uint32_t i = 0; i < n; i++)
            rows[i] = codewords + (size_t)(first + i) * dsub;
        t->kernels->rows->distances(sub, rows, n, dsub, SAC_F32, SAC_DISTANCE_NEG_IP, out + first);
    }
    for (uint32_t i = 0; i < count; i++)
        out[i] *= -t->args->scale;
}

static void table_task(void *context, uint32_t task, uint32_t worker)
{
    const struct table *t = context;
    const struct sac_pq_table_args *a = t->args;
    uint32_t m = a->pq.m, dsub = a->pq.dsub, count = 1u << a->pq.nbits;
    bool is_short = dsub == 1 || dsub == 2 || dsub == 4 || dsub == 8;

    (void)worker;
    for (uint32_t j = 0; j < m; j++) {
        const float *codewords = a->codebook + (size_t)j * count * dsub;
        const float *sub = a->queries + ((size_t)task * m + j) * dsub;
        float *out = a->tables + ((size_t)task * m + j) * count;

        if (is_short)
            t->kernels->table_row(codewords, count, dsub, sub, a->scale, out);
        else
            long_row(t, codewords, count, sub, out);
    }
}

static sac_status table_run(sac_stream *s, const struct sac_pq_table_args *a,
                            const struct sac_pq_kernels *kernels)
{
    struct table table = {a, kernels};

    sac_parallel_for(s, (uint32_t)a->query_count, table_task, &table);
    return SAC_OK;
}

sac_status sac_pq_table_avx2(sac_stream *s, const struct sac_pq_table_args *a)
{
    return table_run(s, a, &sac_pq_avx2);
}

sac_status sac_pq_table_avx512(sac_stream *s, const struct sac_pq_table_args *a)
{
    return table_run(s, a, &sac_pq_avx512);
}
