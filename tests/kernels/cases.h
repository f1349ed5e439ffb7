/* cases.h -- one table of cases per operation, for tests (tests/kernels/ops.c) and benchmarks
 * (bench/kernels.c).
 *
 * A case is a shape. kernel_data_make() fills random inputs for it; ->op->run() runs the operation of any
 * device on them; ->op->check() compares two sets of outputs by the contract of ops.h.
 */
#ifndef SACCADE_TESTS_KERNELS_CASES_H
#define SACCADE_TESTS_KERNELS_CASES_H

#include "kernels/ops.h"

enum {
    CASE_LIVE = 1 << 0,       /* a bitmap hides about a third of the rows */
    CASE_NORMS = 1 << 1,      /* norms are given (in) or asked for (out) */
    CASE_CENTROIDS = 1 << 2,  /* residuals to centroids */
    CASE_DUPLICATES = 1 << 3, /* few distinct vectors, so ties everywhere */
    CASE_INTEGERS = 1 << 4,   /* whole numbers, as SIFT: results must be exact */
    CASE_NAN = 1 << 5,        /* a NaN in every fifth row */
    CASE_BENCH = 1 << 6,      /* too large for a test: benchmarks only */
};

struct kernel_case {
    uint32_t n, dim, k, queries; /* fields that an operation does not use are 0 */
    sac_pq_shape pq;
    sac_dtype dtype;
    sac_distance distance;
    uint32_t flags;
};

enum { OUTPUTS_MAX = 3, BLOCKS_MAX = 32, OUTPUT_GUARD = 64 };

struct kernel_data;

struct kernel_op {
    const char *name;
    const struct kernel_case *cases;
    size_t case_count;
    void (*make)(struct kernel_data *data);
    sac_status (*run)(const struct kernel_data *data, sac_stream *stream, void *const *out);
    /* NULL where `got` may stand for `want`, else what is wrong (static storage). */
    const char *(*check)(const struct kernel_data *data, void *const *want, void *const *got);
};

struct kernel_data {
    const struct kernel_op *op;
    const struct kernel_case *c;
    uint64_t random;
    void *blocks[BLOCKS_MAX]; /* everything allocated */
    size_t block_count;
    union {
        struct sac_norms_args norms;
        struct sac_assign_args assign;
        struct sac_cluster_sums_args cluster_sums;
        struct sac_nearest_args nearest;
        struct sac_gather_distances_args gather_distances;
        struct sac_rows_write_args rows_write;
        struct sac_rows_read_args rows_read;
        struct sac_pq_encode_args pq_encode;
        struct sac_list_write_args list_write;
        struct sac_list_move_args list_move;
        struct sac_pq_table_args pq_table;
        struct sac_pq_scan_args pq_scan;
    } args; /* inputs set, outputs not */
    size_t out_bytes[OUTPUTS_MAX];
    double bytes, flops; /* the least memory traffic and arithmetic of one run, for benchmarks */
};

extern const struct kernel_op *const kernel_ops[];
extern const size_t kernel_op_count;

void kernel_data_make(struct kernel_data *data, const struct kernel_op *op, const struct kernel_case *c,
                      uint64_t seed);
void kernel_data_free(struct kernel_data *data);

/* For the operations' own files. Memory is aligned to 64 and freed with the data; running out ends the
 * program. */
void *kernel_block(struct kernel_data *data, size_t count, size_t size);
uint32_t kernel_random(struct kernel_data *data, uint32_t below);
float kernel_random_float(struct kernel_data *data); /* -1..1; whole numbers 0..191 with CASE_INTEGERS */
/* n rows of dim, as the flags want them. */
float *kernel_random_rows(struct kernel_data *data, size_t n, uint32_t dim);
/* Rows in pages of page_rows, as dtype. */
void **kernel_paged_rows(struct kernel_data *data, const float *rows, size_t n, uint32_t dim,
                         uint32_t page_rows, sac_dtype dtype);
/* Gives the stream exactly this much scratch, so that an operation that takes more than it told fails. */
sac_status kernel_reserve(sac_stream *stream, size_t bytes);
/* Within tolerance * scale; infinities must meet, and NaN only NaN. */
bool kernel_near(float want, float got, float tolerance, float scale);

extern const struct kernel_op norms_op, assign_op, cluster_sums_op, nearest_op, gather_distances_op,
    rows_write_op, rows_read_op, pq_encode_op, list_write_op, list_move_op, pq_table_op, pq_scan_op;

#endif
