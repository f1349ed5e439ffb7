#include "kernels/page.h"
#include "kernels/ref/ref.h"

sac_status sac_list_write_ref(sac_stream *s, const struct sac_list_write_args *a)
{
    (void)s;
    for (size_t i = 0; i < a->n; i++) {
        unsigned char *page = a->pages[a->positions[i] / SAC_PAGE_ROWS];
        uint32_t line = a->positions[i] % SAC_PAGE_ROWS;

        for (uint32_t j = 0; j < a->pq.m; j++)
            sac_page_code_set(&a->pq, page, line, j, a->codes[i * a->pq.m + j]);
        sac_page_bias(&a->pq, page)[line] = a->bias[i];
        if (a->pq.factors)
            sac_page_factors(&a->pq, page)[line] = a->factors[i];
        sac_page_slots(&a->pq, page)[line] = a->slots[i];
    }
    return SAC_OK;
}
