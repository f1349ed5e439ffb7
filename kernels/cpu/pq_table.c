/* One table per query. Twin: ref/pq_table.c. Floor: 2^nbits * dim multiplications a query with a codebook
 * that stays in cache, so folding sums across lanes is what costs; short codewords share registers
 * (pq_avx*.c), long ones go through the row kernels. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/pq.h"

struct table {
    const struct sac_pq_table_args *args;
    const struct sac_pq_kernels *kernels;
};

static void long_row(const struct sac_pq_kernels *kernels, const float *codewords, uint32_t count,
                     uint32_t dsub, const float *sub, float scale, float *out)
{
    enum { GROUP = 64 };

    for (uint32_t first = 0; first < count; first += GROUP) {
        const void *rows[GROUP];
        uint32_t n = count - first < GROUP ? count - first : GROUP;

        for (uint32_t i = 0; i < n; i++)
            rows[i] = codewords + (size_t)(first + i) * dsub;
        kernels->rows->distances(sub, rows, n, dsub, SAC_F32, SAC_DISTANCE_NEG_IP, out + first);
    }
    for (uint32_t i = 0; i < count; i++)
        out[i] *= -scale;
}

void sac_pq_table_make(const struct sac_pq_kernels *kernels, const sac_pq_shape *pq, const float *codebook,
                       const float *query, float scale, float *table)
{
    uint32_t dsub = pq->dsub, count = 1u << pq->nbits;
    bool is_short = dsub == 1 || dsub == 2 || dsub == 4 || dsub == 8;

    for (uint32_t j = 0; j < pq->m; j++) {
        const float *codewords = codebook + (size_t)j * count * dsub;
        const float *sub = query + (size_t)j * dsub;
        float *out = table + (size_t)j * count;

        if (is_short)
            kernels->table_row(codewords, count, dsub, sub, scale, out);
        else
            long_row(kernels, codewords, count, dsub, sub, scale, out);
    }
}

static void table_task(void *context, uint32_t task, uint32_t worker)
{
    const struct table *t = context;
    const struct sac_pq_table_args *a = t->args;

    (void)worker;
    sac_pq_table_make(t->kernels, &a->pq, a->codebook, a->queries + (size_t)task * a->pq.m * a->pq.dsub,
                      a->scale, a->tables + ((size_t)task * a->pq.m << a->pq.nbits));
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
