#include "kernels/select.h"
#include "kernels/ref/ref.h"

#include <assert.h>

sac_status sac_select_ref(sac_stream *s, const struct sac_select_args *a)
{
    (void)s;
    assert(a->keep >= 1);
    for (size_t q = 0; q < a->query_count; q++) {
        const float *distance = a->distance + q * a->stride;
        const uint32_t *index = a->index + q * a->stride;
        uint32_t candidates = a->counts != NULL ? a->counts[q] : a->stride;
        float *distances = a->out_distance + q * a->keep;
        uint32_t *indices = a->out_index + q * a->keep;
        size_t count = 0;

        for (uint32_t i = 0; i < candidates; i++)
            if (index[i] != UINT32_MAX)
                sac_list_insert(distances, indices, a->keep, &count, distance[i], index[i]);
        sac_list_pad(distances, indices, a->keep, count);
    }
    return SAC_OK;
}

size_t sac_select_scratch_ref(const sac_device *d, const struct sac_select_args *a)
{
    (void)d;
    (void)a;
    return 0;
}
