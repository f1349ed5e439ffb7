#include "kernels/page.h"
#include "kernels/ref/ref.h"
#include "kernels/select.h"

#include <assert.h>

struct results {
    float *distance;
    uint32_t *slot;
    size_t depth, count;
};

static void scan_page(const struct sac_pq_scan_args *a, size_t q, unsigned char *page, uint32_t lines,
                      float base, struct results *results)
{
    const sac_pq_shape *pq = &a->pool.pq;
    const float *table = a->tables + (q * pq->m << pq->nbits);
    const uint64_t *filter = a->filters != NULL ? a->filters[q] : NULL;

    for (uint32_t line = 0; line < lines; line++) {
        float distance = base + sac_page_bias(pq, page)[line], sum = pq->factors ? 0.0f : distance;
        uint32_t slot = sac_page_slots(pq, page)[line];

        if (filter != NULL && !(filter[slot / 64] >> slot % 64 & 1))
            continue;
        for (uint32_t j = 0; j < pq->m; j++)
            sum += table[((size_t)j << pq->nbits) + sac_page_code(pq, page, line, j)];
        distance = pq->factors ? distance + sac_page_factors(pq, page)[line] * sum : sum;
        sac_list_insert(results->distance, results->slot, results->depth, &results->count, distance, slot);
    }
}

sac_status sac_pq_scan_ref(sac_stream *s, const struct sac_pq_scan_args *a)
{
    (void)s;
    assert(a->schedule == SAC_QUERY_MAJOR);
    for (size_t q = 0; q < a->query_count; q++) {
        struct results results = {a->out_distance + q * a->depth_stride, a->out_slot + q * a->depth_stride,
                                  a->depths[q], 0};

        assert(a->depths[q] >= 1 && a->depths[q] <= a->depth_stride);
        for (uint32_t p = 0; p < a->probe_counts[q]; p++) {
            const sac_probe *probe = &a->probes[q * a->probe_stride + p];
            const sac_list *list = &a->pool.lists[probe->list];

            for (uint32_t i = 0, rows = list->row_count; rows > 0; i++) {
                uint32_t lines = rows < SAC_PAGE_ROWS ? rows : SAC_PAGE_ROWS;

                scan_page(a, q, a->pool.pages[a->pool.chains[list->first + i]], lines, probe->base, &results);
                rows -= lines;
            }
        }
        sac_list_pad(results.distance, results.slot, results.depth, results.count);
    }
    return SAC_OK;
}

size_t sac_pq_scan_scratch_ref(const sac_device *d, const struct sac_pq_scan_args *a)
{
    (void)d;
    (void)a;
    return 0;
}
