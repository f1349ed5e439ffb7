/* ivf.h -- inverted lists over a product quantizer (IVF-PQ) or RaBitQ, on one device.
 *
 * A stored vector is x = c + r: the centroid of its list plus a residual that the quantizer codes. Then
 *     |q - x|^2 = (|q|^2 - 2 q.c) - 2 q.r + |x|^2
 * The first part falls out of the coarse step (|q - c|^2 - |c|^2), the last is one number stored beside the
 * code, and only q.r needs the codebook: so one lookup table per query serves every list.
 *
 * Lists are made by L2. For the inner product they are probed by inner product; unit vectors (cosine) are
 * coded, probed and scanned by L2, which orders them alike.
 *
 * What is coded is the vector padded with zeros to a multiple of m, or rotated (opq.h): "coded_dim"
 * components. RaBitQ (rabitq.h) keeps signs, and multiplies what the table gives by a factor of the entry.
 */
#ifndef SACCADE_IVF_H
#define SACCADE_IVF_H

#include "engine/groups.h"
#include "engine/index_spec.h"
#include "engine/lists.h"
#include "engine/opq.h"
#include "engine/progress.h"

typedef struct sac_ivf {
    sac_device *device;
    sac_distance distance; /* by which lists are probed and scanned */
    uint32_t dim, coded_dim, nlist;
    sac_pq_shape pq;       /* its factors say that the codec is RaBitQ */
    float *centroids;      /* device [nlist][coded_dim] */
    float *centroid_norms; /* device [nlist], squared */
    float *norms;          /* the same on the host */
    sac_groups groups;
    float *codebook;       /* device [m][2^nbits][dsub]; RaBitQ's is fixed */
    sac_rotation rotation; /* identity where there is none */
    sac_lists lists;
    /* The mean number of queries that probe a list from which each list is decoded once for all of them
     * (calibrate.h); INFINITY: never. */
    float list_major_from;
} sac_ivf;

sac_status sac_ivf_open(sac_device *device, uint32_t dim, sac_metric metric, const sac_index_spec *spec,
                        sac_ivf **out, sac_error *err);
void sac_ivf_close(sac_ivf *ivf); /* NULL is allowed */

/* Rows that training needs at least, and how many it makes use of. */
size_t sac_ivf_train_min(const sac_index_spec *spec);
size_t sac_ivf_train_max(const sac_index_spec *spec);
/* Of these, the ones whose residuals the codes are learnt from. */
size_t sac_ivf_train_residuals(const sac_index_spec *spec);
/* Steps by which the meter advances. */
uint64_t sac_ivf_train_steps(const sac_index_spec *spec);

/* Learns centroids, codebook and, where rotate is set, a rotation from n rows [n][dim] in random order. */
sac_status sac_ivf_train(sac_ivf *ivf, sac_workspace *ws, uint64_t seed, size_t n, const sac_span *x,
                         bool rotate, sac_progress_meter *meter);

/* What an index has learnt, in host memory. */
typedef struct sac_ivf_learnt {
    const float *centroids;      /* [nlist][coded_dim], the lists of a group together */
    const float *codebook;       /* [m][2^nbits][dsub]; not looked at for RaBitQ */
    const float *rotation;       /* [coded_dim][dim], or NULL; of RaBitQ [SAC_ROTATE_ROUNDS][coded_dim] */
    uint32_t group_count;        /* 0: lists are not in groups */
    const uint32_t *group_first; /* [group_count + 1], ascending from 0 to nlist */
} sac_ivf_learnt;

/* Takes it as it was saved. */
sac_status sac_ivf_restore(sac_ivf *ivf, sac_workspace *ws, const sac_ivf_learnt *learnt);

/* Gives another device's index of the same shape what this one has learnt; ws: a workspace of each. */
sac_status sac_ivf_share(const sac_ivf *ivf, sac_workspace *ws, sac_ivf *other, sac_workspace *other_ws);

/* Entries ready to be appended; pieces of the workspace. */
typedef struct sac_ivf_entries {
    size_t n;
    const uint32_t *list; /* host */
    const uint8_t *codes; /* device [n][m] */
    const float *bias;    /* device */
    const float *factors; /* device; nothing where the codec has none */
} sac_ivf_entries;

/* Codes n rows [n][dim] that the device has. Changes nothing: searches may run. */
sac_status sac_ivf_encode(const sac_ivf *ivf, sac_workspace *ws, size_t n, const sac_span *x,
                          sac_ivf_entries *out);

/* Appends them under their slots. No search may run meanwhile. */
sac_status sac_ivf_append(sac_ivf *ivf, sac_workspace *ws, const sac_ivf_entries *entries,
                          const uint32_t *slots);

/* ---- searching: prepare on the host, submit to the stream, wait ---- */

#define SAC_PROBES_MAX 4096u /* lists that one probe step returns */

/* How one query is searched. */
typedef struct sac_ivf_query {
    uint32_t nprobe; /* lists, 1..nlist */
    uint32_t depth;  /* candidates to keep, 1..SAC_DEPTH_MAX */
    uint32_t need;   /* more lists are probed until they hold this many entries */
    /* L2: only lists within this reach are probed (kernels/reach.h), of those at most nprobe; >= 1. 0: no
     * limit, nprobe lists. */
    float reach;
} sac_ivf_query;

/* A batch that is searched together: pieces of the workspace. */
typedef struct sac_ivf_batch {
    size_t n;
    sac_span x, coded;     /* [n][dim], [n][coded_dim] */
    sac_span settings;     /* u32 [4][setting_stride]: nprobes, needs, depths; reaches, which are f32 */
    size_t setting_stride; /* n rounded up */
    uint32_t width;        /* lists that a query may probe */
    uint32_t stride;       /* places of a query's candidates: the largest depth */
    sac_schedule schedule;
    const uint64_t *const *filters; /* device: as in sac_pq_scan_args; NULL: none */
    /* What comes out: the candidates of each query, the first depths[q] of `stride` places; nearest first by
     * coded distance (L2 squared or the negated inner product), unused places +inf and UINT32_MAX. */
    float *distance;        /* device [n][stride] */
    uint32_t *slot;         /* device [n][stride] */
    const uint32_t *depths; /* device [n] */
    const uint32_t *host_depths;
    sac_span held; /* u32 [n]: entries in the lists that were probed */
} sac_ivf_batch;

/* How a batch whose queries ask for so many probes in all is scanned. */
sac_schedule sac_ivf_schedule(const sac_ivf *ivf, uint64_t probes);

/* Takes pieces and fills in what the host knows; nothing is put on the stream. x: [n][dim]. width: lists that
 * a query may probe at least; as many as the largest nprobe in any case, up to SAC_PROBES_MAX. A query that
 * needs more than what is probed is told by sac_ivf_is_short(). */
sac_status sac_ivf_prepare(const sac_ivf *ivf, sac_workspace *ws, size_t n, const sac_span *x,
                           const sac_ivf_query *queries, uint32_t width, sac_ivf_batch *out);

/* Puts the search on the stream; x is on the device already. */
sac_status sac_ivf_submit(const sac_ivf *ivf, sac_workspace *ws, sac_ivf_batch *batch);

/* Which lists the search would scan, without scanning them: lists[q][width], nearest first, of which query q
 * has counts[q], with the squared distance from their centroids, or the negated inner product. On the host;
 * pieces of the workspace. Waits. */
typedef struct sac_ivf_probed {
    uint32_t width;
    const uint32_t *counts; /* [n] */
    uint32_t *lists;        /* [n][width] */
    float *distances;       /* [n][width] */
} sac_ivf_probed;
sac_status sac_ivf_probe(const sac_ivf *ivf, sac_workspace *ws, const sac_ivf_batch *batch,
                         sac_ivf_probed *out);

/* True where query i of a batch, whose `held` was fetched, had to stop for want of width. */
bool sac_ivf_is_short(const sac_ivf *ivf, const sac_ivf_batch *batch, const sac_ivf_query *query, size_t i);

/* The search of one query (a batch of 1 that was prepared) that probes more than SAC_PROBES_MAX lists. Waits
 * in between. */
sac_status sac_ivf_submit_widest(const sac_ivf *ivf, sac_workspace *ws, const sac_ivf_query *query,
                                 sac_ivf_batch *batch);

/* Bytes of everything but the list pages. */
uint64_t sac_ivf_other_bytes(const sac_ivf *ivf);

#endif
