/* resize.h -- antialiased resize of 8-bit RGB in two passes, of which an instruction set brings the inner
 * loops.
 *
 * Columns first: several rows at a time become window_width pixels wide ("narrow"). Then rows: blocks of a
 * narrow picture's columns are summed over its rows ("flatten"). Weights are packed in groups of four taps in
 * whatever form the loops like; what a group reads past an output's taps meets weights of 0.
 */
#ifndef SACCADE_RESIZE_H
#define SACCADE_RESIZE_H

#include "kernels/cpu/cpu.h"
#include "kernels/resize_weights.h"

enum {
    SAC_RESIZE_GROUP = 4,       /* taps */
    SAC_RESIZE_LOAD_BYTES = 16, /* what a group reads of a row of pixels, of which it needs 12 */
    SAC_RESIZE_ROWS_MAX = 8
};

typedef struct sac_resize_packed {
    const uint32_t *starts, *taps; /* of each output */
    const uint8_t *groups;         /* its weights, stride bytes from output to output */
    size_t stride;
} sac_resize_packed;

struct sac_resize_loops {
    uint32_t rows;        /* narrowed at a time, up to SAC_RESIZE_ROWS_MAX */
    uint32_t block_bytes; /* flattened at a time; rows of the narrow picture are padded to it */
    uint32_t group_bytes; /* of packed weights */
    void (*pack)(const int32_t weights[SAC_RESIZE_GROUP], uint8_t *group);
    /* count pixels of each row into `to`, where four bytes are written for each pixel, left to right. */
    void (*narrow)(const uint8_t *const *rows, const sac_resize_packed *w, uint32_t count, uint8_t *to,
                   size_t to_stride);
    /* One block of one output row, block_bytes into `to`. Reads whole groups of rows. */
    void (*flatten)(const uint8_t *from, size_t from_stride, const uint8_t *groups, uint32_t taps,
                    uint8_t *to);
};

size_t sac_resize_scratch_loops(const struct sac_resize_args *a, const struct sac_resize_loops *loops);
sac_status sac_resize_run(sac_stream *s, const struct sac_resize_args *a,
                          const struct sac_resize_loops *loops);

#endif
