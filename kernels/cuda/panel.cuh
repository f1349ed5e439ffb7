/* panel.cuh -- rows made ready for the tensor cores: 16-bit, scaled, padded, and how much that has bent them.
 *
 * A panel holds rows in tiles of 128, as binary16. f16 multiplies as quickly as bf16 and keeps 11 bits
 * instead of 8; what it lacks is range, so all rows of a tile are first multiplied by one power of two
 * (exact) that brings their largest component to [2^14, 2^15). Whole numbers up to 2^11 stay what they are.
 *
 * For a row x that became x', length = |x| and error = |x - x'| are kept. They bound what any product of
 * panel rows may be wrong by (Cauchy, Schwarz):
 *
 *     |x.y - x'.y'|  <=  |x - x'| |y'| + |x| |y - y'|
 *
 * which on real vectors is about 4e-4 |x||y|: small enough to choose by and to prove the choice afterwards,
 * for a third of what three products would cost. */
#ifndef SACCADE_CUDA_PANEL_CUH
#define SACCADE_CUDA_PANEL_CUH

#include "kernels/cuda/rows.cuh"

#define SAC_PANEL_TILE 128u /* rows that share a scale, and that a block multiplies at once */

/* Rows of a paged store (dense NULL), or of one dense array. */
struct sac_row_source {
    const unsigned char *dense;
    struct sac_rows store;
};

static inline struct sac_row_source sac_row_source_dense(const float *rows, uint32_t dim)
{
    struct sac_row_source source = {(const unsigned char *)rows, sac_rows_of(NULL, 1, SAC_F32, dim)};

    return source;
}

static __device__ __forceinline__ const unsigned char *sac_row_source_at(const struct sac_row_source *source,
                                                                         size_t row)
{
    return sac_rows_global(source->dense != NULL ? source->dense + row * source->store.row_bytes
                                                 : sac_row_at(&source->store, (uint32_t)row));
}

/* A panel's arrays; `tiles` * SAC_PANEL_TILE rows, those past the last are zero and have no bias (+inf). */
struct sac_panel {
    uint32_t stride;  /* components of a row: dim, padded with zeros to a multiple of 16 */
    uint16_t *values; /* [rows][stride] */
    float *bias;      /* [rows]: squared length for L2, else 0; +inf where a row is missing or not live */
    float *unscale;   /* [tiles]: multiplied with it, values are components again */
    float *lengths;   /* [rows], or NULL */
    float *errors;    /* [rows], or NULL */
};

static inline uint32_t sac_panel_stride(uint32_t dim)
{
    return (dim + 15) / 16 * 16;
}

static inline uint32_t sac_panel_tiles(size_t rows)
{
    return (uint32_t)((rows + SAC_PANEL_TILE - 1) / SAC_PANEL_TILE);
}

struct sac_panel_shape {
    size_t tiles;
    uint32_t dim;
    bool measured; /* with lengths and errors */
};

/* A panel's bytes of a stream's arena, and taking them; false where there is too little. */
extern "C" size_t sac_panel_scratch(const struct sac_panel_shape *shape);
extern "C" bool sac_panel_take(sac_stream *s, const struct sac_panel_shape *shape, struct sac_panel *out);

struct sac_panel_fill_args {
    struct sac_row_source from;
    size_t first, count;  /* rows of the source */
    const uint64_t *live; /* over all rows of the source, or NULL */
    bool l2;
    struct sac_panel to;
    uint32_t *most; /* [2]: the largest length and error so far as bits of an f32, made larger; or NULL */
};

/* Puts the kernel that fills a panel on the stream (panel.cu). */
extern "C" cudaError_t sac_panel_fill_cuda(cudaStream_t stream, sac_dtype dtype,
                                           const struct sac_panel_fill_args *a);

#endif
