/* pq_scan.h -- between the scan's driver (pq_scan.c) and its inner loops, one set an instruction set. */
#ifndef SACCADE_CPU_PQ_SCAN_H
#define SACCADE_CPU_PQ_SCAN_H

#include "kernels/cpu/reservoir.h"
#include "kernels/page.h"

/* A query's table rounded to bytes: sum_j table[j][code] is within `error` of offset + unit * sum of bytes;
 * with factors it is at least that, and at most 2 * `error` more. */
struct sac_pq_bytes {
    sac_pq_shape pq;
    uint8_t *table; /* the kernel's own layout, at most SAC_PQ_TABLE_STRIDE bytes a sub-quantizer */
    float unit, offset, error;
    float base_error; /* of what is added to the sum, or to factor * sum */
};

#define SAC_PQ_TABLE_STRIDE 256u

struct sac_pq_scan_kernels {
    /* The smallest of each row's values, and the largest range of any row. Rows have 2^nbits values. */
    float (*ranges)(const float *table, uint32_t m, uint32_t nbits, float *min);
    /* byte = round((value - min) * scale), in the plain order [m][2^nbits]. */
    void (*round)(const float *table, uint32_t m, uint32_t nbits, const float *min, float scale,
                  uint8_t *out);
    /* From the plain order to the kernel's own; the memory may be the same. NULL: nothing to do. */
    void (*arrange)(uint8_t *table, uint32_t m, uint32_t nbits);
    /* distance[i] = (base + bias of entry i) + unit * sum of its bytes, for all entries of some pages, of
     * which the kernel takes two at a time where they can share the loads of a table. With factors:
     * (base + bias) + factor * (offset + unit * sum). */
    void (*distances)(const struct sac_pq_bytes *bytes, unsigned char *const *pages, uint32_t page_count,
                      float base, float *distance);
    const struct sac_sieve *sieve;
};

sac_status sac_pq_scan_run(sac_stream *s, const struct sac_pq_scan_args *a,
                           const struct sac_pq_scan_kernels *kernels);

/* Adds to each of SAC_PQ_EXACT_LANES sums what an entry's codes find in a table, in the twin's order. An
 * entry's bytes of codes lie `stride` apart. */
#define SAC_PQ_EXACT_LANES 8u /* computed side by side, to hide the latency of additions */
void sac_pq_exact_lanes(const sac_pq_shape *pq, const float *table, const uint8_t *const *codes,
                        size_t stride, float *sums);

/* Shared between instruction sets. */
float sac_pq_ranges_avx2(const float *table, uint32_t m, uint32_t nbits, float *min);
void sac_pq_round_avx2(const float *table, uint32_t m, uint32_t nbits, const float *min, float scale,
                       uint8_t *out);
void sac_pq_arrange_avx2(uint8_t *table, uint32_t m, uint32_t nbits);
void sac_pq_distances4_avx512(const struct sac_pq_bytes *bytes, unsigned char *const *pages,
                              uint32_t page_count, float base, float *distance);

#endif
