#include "kernels/cpu/rows.h"

void sac_rows_locate(const void *const *pages, uint32_t page_rows, size_t row_bytes, size_t first, uint32_t n,
                     const void **out)
{
    size_t page = first / page_rows;
    uint32_t line = (uint32_t)(first % page_rows);

    for (uint32_t i = 0; i < n; i++) {
        out[i] = (const unsigned char *)pages[page] + line * row_bytes;
        if (++line == page_rows) {
            line = 0;
            page++;
        }
    }
}
