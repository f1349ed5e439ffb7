/* cases.h -- one table of cases per operation, for tests (tests/kernels/ops.c) and benchmarks
 * (bench/kernels.c).
 *
 * A case is a shape. kernel_data_make() fills random inputs for it in the host's memory and lays out its
 * outputs; kernel_copy_make() puts all of that into the memory of a device, where the operation runs;
 * ->op->check() compares two sets of outputs by the contract of ops.h.
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
    CASE_FILTERS = 1 << 7, /* a bitmap for each query: of half, of few, of none; every fourth has none: all */
    CASE_LISTS = 1 << 8,   /* SAC_LIST_MAJOR */
    CASE_COUNTS = 1 << 9,  /* counts differ from query to query and may be 0 */
    CASE_RESIDUAL = 1 << 10, /* added to what is there */
    CASE_IN_PLACE = 1 << 11, /* the input is where the output goes */
    CASE_EXTREMES = 1 << 12, /* zeros, infinities, the largest and the smallest numbers, row by row */
    CASE_BILINEAR = 1 << 13, /* SAC_FILTER_BILINEAR */
    CASE_REACHES = 1 << 14,  /* a reach for each query, of few lists or of many */
    CASE_OUTLIERS = 1 << 15, /* in every third query a component that dwarfs the others */
};

struct kernel_case {
    uint32_t n, dim, k, queries, groups; /* fields that an operation does not use are 0 */
    sac_pq_shape pq;
    sac_dtype dtype, y_dtype;
    sac_distance distance;
    sac_activation activation;
    uint32_t flags;
};

enum { OUTPUTS_MAX = 3, BLOCKS_MAX = 80, OUTPUT_GUARD = 64 };

struct kernel_data;

union kernel_args {
    struct sac_norms_args norms;
    struct sac_assign_args assign;
    struct sac_cluster_sums_args cluster_sums;
    struct sac_nearest_args nearest;
    struct sac_gather_distances_args gather_distances;
    struct sac_select_args select;
    struct sac_merge_args merge;
    struct sac_rows_write_args rows_write;
    struct sac_rows_read_args rows_read;
    struct sac_pq_encode_args pq_encode;
    struct sac_rotate_args rotate;
    struct sac_rabitq_encode_args rabitq_encode;
    struct sac_list_write_args list_write;
    struct sac_list_move_args list_move;
    struct sac_probe_args probe;
    struct sac_pq_table_args pq_table;
    struct sac_pq_scan_args pq_scan;
    struct sac_patchify_args patchify;
    struct sac_linear_args linear;
    struct sac_layer_norm_args layer_norm;
    struct sac_attention_args attention;
    struct sac_tokens_args tokens;
    struct sac_unit_rows_args unit_rows;
};

struct kernel_op {
    const char *name;
    const struct kernel_case *cases;
    size_t case_count;
    void (*make)(struct kernel_data *data);
    /* SAC_UNSUPPORTED where the device has no such operation. */
    sac_status (*run)(sac_stream *stream, const struct kernel_data *data, const union kernel_args *args);
    size_t (*scratch)(const sac_device *device, const union kernel_args *args); /* NULL: none */
    /* NULL where `got` may stand for `want`, else what is wrong (static storage). */
    const char *(*check)(const struct kernel_data *data, void *const *want, void *const *got);
};

struct kernel_array {
    void *memory;
    size_t bytes;
    bool pointers; /* an array of pointers into blocks */
};

struct kernel_data {
    const struct kernel_op *op;
    const struct kernel_case *c;
    uint64_t random;
    struct kernel_array blocks[BLOCKS_MAX];
    size_t block_count;
    union kernel_args args; /* in host memory */
    struct sac_linear_params linear;
    size_t outputs[OUTPUTS_MAX]; /* blocks, each followed by OUTPUT_GUARD bytes */
    size_t out_bytes[OUTPUTS_MAX];
    size_t output_count;
    bool twin;           /* the check is of the CPU's versions, which may promise more than the contract */
    double bytes, flops; /* the least memory traffic and arithmetic of one run, for benchmarks */
};

extern const struct kernel_op *const kernel_ops[];
extern const size_t kernel_op_count;

void kernel_data_make(struct kernel_data *data, const struct kernel_op *op, const struct kernel_case *c,
                      uint64_t seed);
void kernel_data_free(struct kernel_data *data);

/* The same data in a device's memory. */
struct kernel_copy {
    sac_device *device;
    void *buffers[BLOCKS_MAX];
    size_t buffer_count;
    union kernel_args args;
};

/* Every block goes into a buffer of its own. Words of the arguments and of arrays of pointers that point into
 * a block then point to the same place of its buffer, so that no case need know where it runs. */
sac_status kernel_copy_make(struct kernel_copy *copy, const struct kernel_data *data, sac_stream *stream);
/* Other data of the same case into the same memory. */
sac_status kernel_copy_upload(const struct kernel_copy *copy, const struct kernel_data *data,
                              sac_stream *stream);
void kernel_copy_free(struct kernel_copy *copy);

/* Gives the stream exactly as much scratch as the operation asks for. */
sac_status kernel_reserve(const struct kernel_data *data, const struct kernel_copy *copy, sac_stream *stream);
/* Puts the operation on the stream, which has its scratch. */
sac_status kernel_run(const struct kernel_data *data, const struct kernel_copy *copy, sac_stream *stream);

/* Waits, and copies the outputs and their guards to out[i], which have room for them. */
sac_status kernel_copy_read(const struct kernel_copy *copy, const struct kernel_data *data,
                            sac_stream *stream, void *const *out);

/* The bytes that outputs start as (as floats NaN, as places nonsense) and that follow them. */
enum { KERNEL_POISON = 0xff, KERNEL_GUARD = 0xa5 };

/* ---- for the operations' own files: memory is aligned to 64 and freed with the data; running out ends the
 * program ---- */

void *kernel_block(struct kernel_data *data, size_t count, size_t size);
void *kernel_pointers(struct kernel_data *data, size_t count); /* for pointers into blocks; all NULL */
void *kernel_output(struct kernel_data *data, size_t count, size_t size);
uint32_t kernel_random(struct kernel_data *data, uint32_t below);
float kernel_random_float(struct kernel_data *data); /* -1..1; whole numbers 0..191 with CASE_INTEGERS */
/* n rows of dim, as the flags want them. */
float *kernel_random_rows(struct kernel_data *data, size_t n, uint32_t dim);
/* Rows in pages of page_rows, as dtype; `rows` becomes what is stored. */
const void *const *kernel_paged_rows(struct kernel_data *data, float *rows, size_t n, uint32_t dim,
                                     uint32_t page_rows, sac_dtype dtype);
/* Bitmaps of `bits` for each query, or NULL without CASE_FILTERS. */
const uint64_t *const *kernel_filters(struct kernel_data *data, size_t bits);
/* Within tolerance * scale; infinities must meet, and NaN only NaN. */
bool kernel_near(float want, float got, float tolerance, float scale);
double kernel_dot(const float *x, const float *y, uint32_t dim);

/* Whether a device of these operations can be given the case's lists. */
static inline bool kernel_knows(const struct sac_ops *ops, const struct kernel_case *c)
{
    return !c->pq.factors || ops->rabitq_encode != NULL;
}

/* The operation as kernel_op wants it: KERNEL_RUN(norms) makes norms_run(), KERNEL_SCRATCH(assign)
 * assign_scratch(). */
#define KERNEL_RUN(name)                                                                        \
    static sac_status name##_run(sac_stream *stream, const struct kernel_data *data,            \
                                 const union kernel_args *args)                                 \
    {                                                                                           \
        const struct sac_ops *ops = sac_device_ops(sac_stream_device(stream));                  \
                                                                                                \
        return ops->name != NULL && kernel_knows(ops, data->c) ? ops->name(stream, &args->name) \
                                                               : SAC_UNSUPPORTED;               \
    }
#define KERNEL_SCRATCH(name)                                                               \
    static size_t name##_scratch(const sac_device *device, const union kernel_args *args)  \
    {                                                                                      \
        const struct sac_ops *ops = sac_device_ops(device);                                \
                                                                                           \
        return ops->name##_scratch != NULL ? ops->name##_scratch(device, &args->name) : 0; \
    }

extern const struct kernel_op norms_op, assign_op, cluster_sums_op, nearest_op, gather_distances_op,
    select_op, merge_op, rows_write_op, rows_read_op, pq_encode_op, rotate_op, rabitq_encode_op,
    list_write_op, list_move_op, probe_op, pq_table_op, pq_scan_op, linear_op, layer_norm_op, tokens_op,
    unit_rows_op, patchify_op, attention_op;

#endif
