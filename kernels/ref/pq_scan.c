#include "kernels/page.h"
#include "kernels/ref/ref.h"
#include "kernels/select.h"

#include <assert.h>

struct results {
    float *distance;
    uint32_t *slot;
    size_t depth, count;
};

static void scan_page(const struct sac_pq_scan_args *a, const float *table, uint32_t page, uint32_t lines,
                      float base, struct results *results)
{
    for (uint32_t line = 0; line < lines; line++) {
        float distance = base + a->page_bias[page][line];

        for (uint32_t j = 0; j < a->pq.m; j++)
            distance +=
                table[((size_t)j << a->pq.nbits) + sac_page_code(&a->pq, a->page_codes[page], line, j)];
        sac_list_insert(results->distance, results->slot, results->depth, &results->count, distance,
                        a->page_slots[page][line]);
    }
}

sac_status sac_pq_scan_ref(sac_stream *s, const struct sac_pq_scan_args *a)
{
    (void)s;
    for (size_t q = 0; q < a->query_count; q++) {
        const float *table = a->tables + (q * a->pq.m << a->pq.nbits);
        struct results results = {a->out_distance[q], a->out_slot[q], a->depths[q], 0};

        assert(a->depths[q] >= 1);
        for (uint32_t p = 0; p < a->probe_counts[q]; p++) {
            const sac_list_view *list = &a->lists[a->probes[q][p].list];

            for (uint32_t i = 0, rows = list->row_count; rows > 0; i++) {
                uint32_t lines = rows < SAC_PAGE_ROWS ? rows : SAC_PAGE_ROWS;

                scan_page(a, table, list->pages[i], lines, a->probes[q][p].base, &results);
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
