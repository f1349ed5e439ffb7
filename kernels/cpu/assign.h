/* assign.h -- what the versions of assign share: the centroids as the f32 version reads them. */
#ifndef SACCADE_CPU_ASSIGN_H
#define SACCADE_CPU_ASSIGN_H

#include "kernels/cpu/rows.h"

struct sac_assign_panels {
    const struct sac_rows_kernels *kernels;
    float *panels; /* [count][dim][kernels->panel_rows] */
    float *norms;  /* [count * kernels->panel_rows], padded with infinity */
    uint32_t count;
};

/* Bytes of scratch that make() takes. */
size_t sac_assign_panels_size(const struct sac_assign_args *a);
/* False where the arena is too small. */
bool sac_assign_panels_make(sac_stream *s, const struct sac_assign_args *a,
                            const struct sac_rows_kernels *kernels, struct sac_assign_panels *out);

/* distance[i] for rows first..first+count-1, whose index is there; nothing where none is asked for. */
void sac_assign_distances(const struct sac_assign_args *a, const struct sac_rows_kernels *kernels,
                          size_t first, uint32_t count);

/* Short rows and a power of two of centroids, on tiles; only where it pays. */
bool sac_assign_short_pays(const struct sac_assign_args *a);
size_t sac_assign_short_scratch(const sac_device *d, const struct sac_assign_args *a);
sac_status sac_assign_short(sac_stream *s, const struct sac_assign_args *a);

#endif
