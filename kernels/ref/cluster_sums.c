#include "kernels/ref/ref.h"

#include <assert.h>
#include <string.h>

sac_status sac_cluster_sums_ref(sac_stream *s, const struct sac_cluster_sums_args *a)
{
    (void)s;
    memset(a->sums, 0, sizeof *a->sums * a->k * a->dim);
    memset(a->counts, 0, sizeof *a->counts * a->k);
    for (size_t i = 0; i < a->n; i++) {
        float *sum = a->sums + (size_t)a->index[i] * a->dim;

        assert(a->index[i] < a->k);
        for (uint32_t d = 0; d < a->dim; d++)
            sum[d] += a->x[i * a->dim + d];
        a->counts[a->index[i]]++;
    }
    return SAC_OK;
}

size_t sac_cluster_sums_scratch_ref(const sac_device *d, const struct sac_cluster_sums_args *a)
{
    (void)d;
    (void)a;
    return 0;
}
