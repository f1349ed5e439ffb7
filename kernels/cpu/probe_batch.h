/* probe_batch.h -- rough distances of a block of a batch's queries at once, for probe.c: from all heads, and
 * then from the lists of the groups that each has chosen. Only for CPUs with AMX. */
#ifndef SACCADE_CPU_PROBE_BATCH_H
#define SACCADE_CPU_PROBE_BATCH_H

#include "kernels/cpu/rough_tiles.h"

enum { SAC_PROBE_BLOCK_LEAST = 32 }; /* fewer queries are as quick one by one */

/* The groups whose lists a query looks at, the nearest first. */
struct sac_probe_groups {
    uint32_t *groups; /* [group_count] */
    uint32_t count;
};

/* A block of queries. Distances are those of sac_rough_kernels, to the bit. */
struct sac_probe_block {
    struct sac_rough_query queries[SAC_ROUGH_QUERIES];
    struct sac_probe_groups chosen[SAC_ROUGH_QUERIES]; /* the caller's to fill in, between heads and lists */
    uint32_t count;                                    /* queries */
    int8_t *parts;                                     /* [SAC_ROUGH_QUERIES][dim, padded]: the queries' */
    uint64_t *choosers;                                /* [group_count]: bit q is query q */
    int32_t *products; /* [SAC_ROUGH_QUERIES][SAC_ROUGH_STRIDE]: of some rows */
    float *heads;      /* [SAC_ROUGH_QUERIES][group_count] */
    float *lists;      /* [SAC_ROUGH_QUERIES][nlist]; what nobody asked for is not written */
};

struct sac_probe_batch {
    const struct sac_probe_args *args;
    struct sac_rough_packs heads, lists;
    struct sac_probe_block *blocks; /* one for each thread of the device */
};

/* Whether a batch has blocks for all threads. */
bool sac_probe_batch_pays(const sac_device *d, const struct sac_probe_args *a);

size_t sac_probe_batch_scratch(const sac_device *d, const struct sac_probe_args *a);
bool sac_probe_batch_take(sac_stream *s, const struct sac_probe_args *a, struct sac_probe_batch *out);

/* Packs the rough rows: before the first block. */
void sac_probe_batch_pack(sac_stream *s, const struct sac_probe_batch *batch);

/* Begins a block of the queries from `first` on, as many as are left, and compares them with all heads. */
void sac_probe_block_begin(const struct sac_probe_batch *batch, const struct sac_rough_kernels *rough,
                           size_t first, struct sac_probe_block *block);

/* Compares each with the lists of its groups, or with all where there are no groups. */
void sac_probe_block_lists(const struct sac_probe_batch *batch, struct sac_probe_block *block);

#endif
