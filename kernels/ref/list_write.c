#include "kernels/page.h"
#include "kernels/ref/ref.h"

sac_status sac_list_write_ref(sac_stream *s, const struct sac_list_write_args *a)
{
    (void)s;
    for (size_t i = 0; i < a->n; i++) {
        uint32_t page = a->positions[i] / SAC_PAGE_ROWS, line = a->positions[i] % SAC_PAGE_ROWS;

        for (uint32_t j = 0; j < a->pq.m; j++)
            sac_page_code_set(&a->pq, a->page_codes[page], line, j, a->codes[i * a->pq.m + j]);
        a->page_bias[page][line] = a->bias[i];
        a->page_slots[page][line] = a->slots[i];
    }
    return SAC_OK;
}
