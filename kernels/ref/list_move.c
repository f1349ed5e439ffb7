#include "kernels/page.h"
#include "kernels/ref/ref.h"

sac_status sac_list_move_ref(sac_stream *s, const struct sac_list_move_args *a)
{
    uint32_t from_page = a->from / SAC_PAGE_ROWS, from_line = a->from % SAC_PAGE_ROWS;
    uint32_t to_page = a->to / SAC_PAGE_ROWS, to_line = a->to % SAC_PAGE_ROWS;

    (void)s;
    for (uint32_t j = 0; j < a->pq.m; j++) {
        uint32_t code = sac_page_code(&a->pq, a->page_codes[from_page], from_line, j);

        sac_page_code_set(&a->pq, a->page_codes[to_page], to_line, j, (uint8_t)code);
    }
    a->page_bias[to_page][to_line] = a->page_bias[from_page][from_line];
    a->page_slots[to_page][to_line] = a->page_slots[from_page][from_line];
    return SAC_OK;
}
