/* groups.h -- what makes coarse search cheap where lists are many: the lists in groups, and rough rows.
 *
 * k-means over the centroids makes about 2 sqrt(nlist) groups, and lists are numbered so that those of a
 * group follow each other. A query compares itself with the groups' heads first and then with the lists of
 * the nearest groups only (sac_probe_args in kernels/ops.h says which), by their rough rows.
 *
 * On a device whose probe makes no use of them they are only remembered, to be saved with the index.
 */
#ifndef SACCADE_GROUPS_H
#define SACCADE_GROUPS_H

#include "engine/workspace.h"

/* Fewer lists are not worth grouping: what is spared, a microsecond, is spent on probing more lists in place
 * of the few that a group hides. */
#define SAC_GROUPS_LISTS_MIN 2048u

typedef struct sac_groups {
    sac_device *device;
    uint32_t count;  /* 0: none */
    uint32_t *first; /* host [count + 1]: group g is lists first[g] .. first[g + 1] - 1 */
    /* On the device; NULL where its probe has no use for them. */
    uint32_t *device_first;
    float *heads;      /* [count][dim] */
    float *head_norms; /* [count], squared */
    void *rough, *rough_heads;
} sac_groups;

/* How many groups there are for so many lists at most; 0: none. */
uint32_t sac_groups_most(uint32_t nlist);

/* Finds groups for centroids [nlist][dim], which are put into their order on both sides. first: host
 * [sac_groups_most() + 1]. */
sac_status sac_groups_train(sac_workspace *ws, uint64_t seed, uint32_t nlist, uint32_t dim,
                            const sac_span *centroids, uint32_t *count, uint32_t *first);

/* Takes groups of centroids [nlist][dim], given from the host, that the device has already. count 0: none,
 * then there are only rough rows. sac_groups_close() in any case. */
sac_status sac_groups_open(sac_groups *groups, sac_workspace *ws, uint32_t nlist, uint32_t dim,
                           const float *centroids, const float *device_centroids, uint32_t count,
                           const uint32_t *first);
void sac_groups_close(sac_groups *groups); /* all zero is allowed */

/* Fills in what a probe of all lists makes use of. */
void sac_groups_give(const sac_groups *groups, struct sac_probe_args *args);

/* Device memory of them. */
uint64_t sac_groups_bytes(const sac_groups *groups, uint32_t nlist, uint32_t dim);
/* The same before there are any, on a device that makes use of them: as much at most. */
uint64_t sac_groups_plan(uint32_t nlist, uint32_t dim);

#endif
