#include "kernels/page.h"
#include "kernels/ref/ref.h"

sac_status sac_list_move_ref(sac_stream *s, const struct sac_list_move_args *a)
{
    unsigned char *from = a->pages[a->from / SAC_PAGE_ROWS], *to = a->pages[a->to / SAC_PAGE_ROWS];
    uint32_t from_line = a->from % SAC_PAGE_ROWS, to_line = a->to % SAC_PAGE_ROWS;

    (void)s;
    for (uint32_t j = 0; j < a->pq.m; j++)
        sac_page_code_set(&a->pq, to, to_line, j, (uint8_t)sac_page_code(&a->pq, from, from_line, j));
    sac_page_bias(&a->pq, to)[to_line] = sac_page_bias(&a->pq, from)[from_line];
    if (a->pq.factors)
        sac_page_factors(&a->pq, to)[to_line] = sac_page_factors(&a->pq, from)[from_line];
    sac_page_slots(&a->pq, to)[to_line] = sac_page_slots(&a->pq, from)[from_line];
    return SAC_OK;
}
