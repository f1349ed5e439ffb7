/* index_spec.h -- what kind of index, written in the manner of FAISS's index factory.
 *
 *   spec   = "auto" | "Flat" | "SQfp16" | "SQ8" | [opq ","] ivf "," pq ["," refine]
 *          | ivf "," rabitq ["," refine]
 *   opq    = "OPQ" m ["_" dim]        rotation learnt for m sub-quantizers, into dim components
 *   ivf    = "IVF" nlist
 *   pq     = "PQ" m ["x" nbits]       8 bits where none are given
 *   rabitq = "RaBitQ" | "RaBitQ1"     signs after a random rotation: one bit a component
 *   refine = "RFlat" | "Refine(Flat)" | "Refine(SQfp16)" | "Refine(SQ8)"
 *
 * Vectors for re-ranking are always kept - as f32, f16, or bytes with a scale for each vector (SQ8) - so no
 * refine part means Refine(Flat).
 */
#ifndef SACCADE_INDEX_SPEC_H
#define SACCADE_INDEX_SPEC_H

#include "engine/saccade.h"
#include "kernels/ops.h"

#define SAC_NLIST_MAX 1048576u
#define SAC_M_MAX 512u

typedef struct sac_index_spec {
    bool automatic;     /* not chosen yet; the rest is zero */
    uint32_t nlist;     /* 0: Flat, then everything below but dtype is zero */
    uint32_t m, nbits;  /* sub-quantizers and bits of each */
    bool rotate;        /* OPQ */
    bool rabitq;        /* then m is coded_dim / 4, and nbits 4: the signs of four components */
    uint32_t coded_dim; /* components of what is coded: dim rounded up to a multiple of m (RaBitQ: of 4), or
                           what OPQ asks for */
    sac_dtype dtype;    /* of the stored vectors: SAC_F32, SAC_F16 or SAC_I8 */
} sac_index_spec;

/* Of what a spec with lists codes. */
static inline sac_pq_shape sac_index_spec_shape(const sac_index_spec *spec)
{
    return (sac_pq_shape){
        .m = spec->m, .nbits = spec->nbits, .dsub = spec->coded_dim / spec->m, .factors = spec->rabitq};
}

/* Errors: SAC_INVALID_ARGUMENT, with the token, the limit and the fix. */
sac_status sac_index_spec_parse(const char *text, uint32_t dim, sac_index_spec *out, sac_error *err);

/* What "auto" means for an index of `count` vectors, of which `training` are there to learn from. */
void sac_index_spec_choose(size_t count, size_t training, uint32_t dim, sac_index_spec *out);

/* The string that parses to this spec; cut to fit. */
void sac_index_spec_format(const sac_index_spec *spec, uint32_t dim, char *text, size_t size);

#endif
