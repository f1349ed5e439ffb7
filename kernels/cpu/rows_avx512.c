/* Rows against a query: 16 rows at a time, one accumulator each, folded together at the end. Twins:
 * ref/nearest.c, ref/gather_distances.c, ref/assign.c. Floors: distances: one load, one subtraction, one FMA
 * for 16 components: a core adds up 64 bytes a cycle from L1, so beyond L2 memory decides (here about 11 GB/s
 * read a core). products and arg_min: 24 FMA for 14 loads: the FMA peak (2 x 16 a cycle). */
#include "kernels/cpu/fold_avx512.h"
#include "kernels/cpu/load_avx512.h"
#include "kernels/cpu/rows.h"

#include <math.h>

enum { PANEL = 32, TILE = 12 };

SAC_SPECIALIZE __m512 term(__m512 sum, __m512 q, __m512 x, bool ip)
{
    __m512 difference;

    if (ip)
        return _mm512_fnmadd_ps(q, x, sum);
    difference = _mm512_sub_ps(q, x);
    return _mm512_fmadd_ps(difference, difference, sum);
}

/* dtype and ip are constants in every caller. */
SAC_SPECIALIZE __m512 distances16(const float *query, const void *const rows[16], uint32_t dim,
                                  sac_dtype dtype, bool ip)
{
    __mmask16 tail = (__mmask16)((1u << dim % 16) - 1);
    __m512 sums[16];
    uint32_t d = 0;

#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        sums[i] = _mm512_setzero_ps();
    for (; d + 16 <= dim; d += 16) {
        __m512 q = _mm512_loadu_ps(query + d);

#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            sums[i] = term(sums[i], q, load16(rows[i], d, 0xffff, dtype), ip);
    }
    if (tail != 0) {
        __m512 q = _mm512_maskz_loadu_ps(tail, query + d);

#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            sums[i] = term(sums[i], q, load16(rows[i], d, tail, dtype), ip);
    }
    return fold16(sums);
}

static void distances(const float *query, const void *const *rows, uint32_t n, uint32_t dim, sac_dtype dtype,
                      sac_distance distance, float *out)
{
    bool ip = distance == SAC_DISTANCE_NEG_IP;

    for (uint32_t i = 0; i < n; i += 16) {
        const void *group[16];
        uint32_t count = n - i < 16 ? n - i : 16;
        __m512 d;

        for (uint32_t j = 0; j < 16; j++)
            group[j] = rows[i + (j < count ? j : 0)];
        if (dtype == SAC_I8)
            d = ip ? distances16(query, group, dim, SAC_I8, true)
                   : distances16(query, group, dim, SAC_I8, false);
        else if (dtype == SAC_F16)
            d = ip ? distances16(query, group, dim, SAC_F16, true)
                   : distances16(query, group, dim, SAC_F16, false);
        else
            d = ip ? distances16(query, group, dim, SAC_F32, true)
                   : distances16(query, group, dim, SAC_F32, false);
        _mm512_mask_storeu_ps(out + i, (__mmask16)((1u << count) - 1), d);
    }
}

/* Transposes 16 rows of 16 components: four rounds in which pairs of registers exchange halves of halves. */
static inline void transpose16(__m512 r[16])
{
    __m512 t[16];

    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        r[4 * i + 1] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        r[4 * i + 2] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        r[4 * i + 3] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) { /* r[4g + i]: column i of the four 128-bit lanes, rows 4g..4g+3 */
        t[i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0xdd);
        r[4 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0x88);
        r[12 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

static void pack(const void *const *rows, uint32_t n, uint32_t dim, sac_dtype dtype, float *panel)
{
    for (uint32_t half = 0; half < PANEL; half += 16) {
        for (uint32_t d = 0; d < dim; d += 16) {
            uint32_t count = dim - d < 16 ? dim - d : 16;
            __mmask16 mask = (__mmask16)((1u << count) - 1);
            __m512 r[16];

            for (uint32_t i = 0; i < 16; i++)
                r[i] = half + i < n ? load16(rows[half + i], d, mask, dtype) : _mm512_setzero_ps();
            transpose16(r);
            for (uint32_t i = 0; i < count; i++)
                _mm512_store_ps(panel + (size_t)(d + i) * PANEL + half, r[i]);
        }
    }
}

/* sums[q][h]: the products of query q with 16 panel rows. count is a constant in every caller. */
SAC_SPECIALIZE void tile(const float *queries, int count, uint32_t dim, const float *panel,
                         __m512 sums[TILE][2])
{
    for (int q = 0; q < count; q++)
        sums[q][0] = sums[q][1] = _mm512_setzero_ps();
    for (uint32_t d = 0; d < dim; d++) {
        __m512 low = _mm512_load_ps(panel + (size_t)d * PANEL),
               high = _mm512_load_ps(panel + (size_t)d * PANEL + 16);

#pragma GCC unroll 12
        for (int q = 0; q < count; q++) {
            __m512 x = _mm512_set1_ps(queries[(size_t)q * dim + d]);

            sums[q][0] = _mm512_fmadd_ps(x, low, sums[q][0]);
            sums[q][1] = _mm512_fmadd_ps(x, high, sums[q][1]);
        }
    }
}

struct finish {
    float scale;
    const float *row_add, *query_add;
    float *out;
    size_t out_stride;
};

SAC_SPECIALIZE void products_tile(const float *queries, int count, uint32_t dim, const float *panel,
                                  uint32_t first, const struct finish *f)
{
    __m512 sums[TILE][2], scale = _mm512_set1_ps(f->scale);

    tile(queries + (size_t)first * dim, count, dim, panel, sums);
    for (int q = 0; q < count; q++) {
        __m512 add = _mm512_set1_ps(f->query_add[first + (uint32_t)q]);
        float *out = f->out + (first + (uint32_t)q) * f->out_stride;

        for (int half = 0; half < 2; half++)
            _mm512_storeu_ps(out + half * 16,
                             _mm512_fmadd_ps(scale, sums[q][half],
                                             _mm512_add_ps(_mm512_loadu_ps(f->row_add + half * 16), add)));
    }
}

static void products(const float *queries, uint32_t query_count, uint32_t dim, const float *panel,
                     float scale, const float *row_add, const float *query_add, float *out, size_t out_stride)
{
    const struct finish f = {scale, row_add, query_add, out, out_stride};
    uint32_t q = 0;

    for (; q + TILE <= query_count; q += TILE)
        products_tile(queries, TILE, dim, panel, q, &f);
    for (; q + 4 <= query_count; q += 4)
        products_tile(queries, 4, dim, panel, q, &f);
    for (; q < query_count; q++)
        products_tile(queries, 1, dim, panel, q, &f);
}

/* The least score so far and where, of each row and lane. */
struct least {
    __m512 score[2];
    __m512i index[2];
};

SAC_SPECIALIZE void arg_min_tile(const float *x, int count, uint32_t dim, const float *panel,
                                 const float *norms, uint32_t first_index, struct least *least)
{
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 minus_two = _mm512_set1_ps(-2.0f);
    __m512 sums[TILE][2];

    tile(x, count, dim, panel, sums);
    for (int half = 0; half < 2; half++) {
        __m512 norm = _mm512_loadu_ps(norms + half * 16);
        __m512i index = _mm512_add_epi32(lanes, _mm512_set1_epi32((int)first_index + half * 16));

        for (int i = 0; i < count; i++) {
            __m512 score = _mm512_fmadd_ps(minus_two, sums[i][half], norm);
            __mmask16 less = _mm512_cmp_ps_mask(score, least[i].score[half], _CMP_LT_OQ);

            least[i].score[half] = _mm512_mask_mov_ps(least[i].score[half], less, score);
            least[i].index[half] = _mm512_mask_mov_epi32(least[i].index[half], less, index);
        }
    }
}

/* The smallest score of 32 lanes; among equals the smallest index. */
static uint32_t least_index(const struct least *least)
{
    __m512 score = _mm512_min_ps(least->score[0], least->score[1]);
    __m512 smallest = _mm512_set1_ps(_mm512_reduce_min_ps(score));
    uint32_t best = UINT32_MAX;

    for (int half = 0; half < 2; half++) {
        __mmask16 equal = _mm512_cmp_ps_mask(least->score[half], smallest, _CMP_EQ_OQ);
        uint32_t index =
            _mm512_reduce_min_epu32(_mm512_mask_mov_epi32(_mm512_set1_epi32(-1), equal, least->index[half]));

        best = index < best ? index : best;
    }
    return best;
}

static void arg_min(const float *x, uint32_t n, uint32_t dim, const float *panels, uint32_t panel_count,
                    const float *centroid_norms, uint32_t *index)
{
    struct least least[SAC_ARG_MIN_ROWS];

    for (uint32_t i = 0; i < n; i++)
        for (int half = 0; half < 2; half++) {
            least[i].score[half] = _mm512_set1_ps(INFINITY);
            least[i].index[half] = _mm512_setzero_si512();
        }
    for (uint32_t p = 0; p < panel_count; p++) {
        const float *panel = panels + (size_t)p * PANEL * dim, *norms = centroid_norms + p * PANEL;
        uint32_t i = 0;

        for (; i + TILE <= n; i += TILE)
            arg_min_tile(x + (size_t)i * dim, TILE, dim, panel, norms, p * PANEL, least + i);
        for (; i < n; i++)
            arg_min_tile(x + (size_t)i * dim, 1, dim, panel, norms, p * PANEL, least + i);
    }
    for (uint32_t i = 0; i < n; i++)
        index[i] = least_index(&least[i]);
}

const struct sac_rows_kernels sac_rows_avx512 = {distances, PANEL,   pack,
                                                 products,  arg_min, &sac_sieve_avx512};
