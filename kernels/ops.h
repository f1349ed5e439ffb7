/* ops.h -- the table of operations: what a device can do.
 *
 * Every device fills the same table; kernels/ref/ holds the plain C twin of each slot, which is the truth
 * in tests and the baseline in benchmarks. The contract stands on the slot's argument struct: shape, tie
 * rule, NaN rule, tolerance against the twin.
 *
 *   - Arrays are row-major, dense unless a stride is named, in device memory - directories of pages, bitmaps
 *     and the settings of each query too - aligned to 64 bytes unless said otherwise. So a whole search is
 * put on a stream without the host waiting in between. Inputs and outputs do not overlap unless said
 * otherwise.
 *   - Counts given by value bound the work and choose the launch; counts in arrays are read when the
 * operation runs, so that a recorded search (device.h) can be played for other queries.
 *   - Operations never allocate: workspace comes from the stream's scratch arena. An operation whose
 *     workspace depends on its shape has a `<op>_scratch` slot that tells the bytes it will take;
 *     SAC_NO_MEMORY (ref, cpu) or SAC_DEVICE_MEMORY comes back if the arena is smaller.
 *   - Arguments are checked by the engine, once; operations assert them.
 *   - n == 0 is allowed everywhere and does nothing.
 *   - Distances are "smaller is nearer": squared L2, or the negated inner product. Equal distances order
 *     by the smaller index; NaN orders after everything, +inf included.
 */
#ifndef SACCADE_OPS_H
#define SACCADE_OPS_H

#include "kernels/device.h"

#include <math.h>

/* SAC_I8 is a format of stored rows, which are finite: an f32 scale, then dim signed bytes, padded with zeros
 * to a multiple of 4; component d is scale * byte[d]. Written are scale = max |x| / 127 and x[d] / scale
 * rounded to the nearest, ties to even, within -127..127; zeros where the scale is 0. */
typedef enum sac_dtype { SAC_F32, SAC_F16, SAC_BF16, SAC_I8 } sac_dtype;

/* Distance kinds that kernels know. Cosine is the inner product of vectors the engine has normalised. */
typedef enum sac_distance { SAC_DISTANCE_L2SQ, SAC_DISTANCE_NEG_IP } sac_distance;

/* Bytes of one stored row; rows of a page follow each other without gaps. */
static inline size_t sac_row_bytes(sac_dtype dtype, uint32_t dim)
{
    return dtype == SAC_F32  ? (size_t)dim * 4
           : dtype == SAC_I8 ? 4 + ((size_t)dim + 3) / 4 * 4
                             : (size_t)dim * 2;
}

/* ---- vectors ------------------------------------------------------------------------------------- */

/* out[i] = sum_d x[i][d]^2, accumulated in f32. Tolerance: 1e-5 relative. */
struct sac_norms_args {
    const float *x; /* [n][dim] */
    size_t n;
    uint32_t dim;
    float *out; /* [n] */
};

/* Nearest centroid of every row, by squared L2: the assignment step of k-means and of list insertion.
 * Never holds an n x k matrix. index: ties take the smaller centroid; a row with a NaN gets index 0 and
 * distance NaN. A variant that computes in another order may pick another centroid only where the two
 * distances differ by less than 1e-5 * (|x|^2 + |c|^2) + 1e-35. */
struct sac_assign_args {
    const float *x; /* [n][dim] */
    size_t n;
    uint32_t dim;
    const float *centroids;      /* [k][dim] */
    const float *centroid_norms; /* [k], squared */
    uint32_t k;                  /* >= 1 */
    uint32_t *index;             /* [n] */
    float *distance;             /* [n], or NULL */
};

/* Sums and counts of the rows of each cluster: the update step of k-means. Overwrites sums and counts. The
 * same input gives the same sums, to the bit. */
struct sac_cluster_sums_args {
    const float *x; /* [n][dim] */
    size_t n;
    uint32_t dim;
    const uint32_t *index; /* [n], each < k */
    uint32_t k;
    float *sums;      /* [k][dim]; 1e-5 relative to the sum of absolute values */
    uint32_t *counts; /* [k] */
};

/* The k nearest rows of each query, exactly: coarse search, exact search, ground truth.
 * Rows live in pages of page_rows rows each; row r is page r / page_rows, line r % page_rows. A row whose
 * bit in `live` is 0 is skipped. out_distance ascending; unused places (fewer than k live rows) hold
 * +inf and index UINT32_MAX. Finite rows and queries only. L2 is computed as sum (q-x)^2 for the distances
 * that are returned, so equal vectors give exactly 0 and integers below 2^24 exact results. */
struct sac_nearest_args {
    const float *queries; /* [query_count][dim] */
    size_t query_count;
    uint32_t dim;
    sac_distance distance;
    const void *const *pages; /* each [page_rows][sac_row_bytes(dtype, dim)] */
    uint32_t page_rows;
    sac_dtype dtype;      /* of the rows: SAC_F32, SAC_F16 or SAC_I8 */
    size_t row_count;     /* 0..UINT32_MAX-1 */
    const uint64_t *live; /* bitmap, ceil(row_count / 64) words, or NULL: all live */
    /* For each query a bitmap like `live` of the rows it may find, or a NULL for all; or NULL: all, for all.
     */
    const uint64_t *const *filters;
    const float *norms;  /* [row_count] squared norms, or NULL; lets batches use matrix products */
    uint32_t k;          /* 1..4096 */
    float *out_distance; /* [query_count][k] */
    uint32_t *out_index; /* [query_count][k] */
};

/* Exact distances of chosen rows to a query each: re-ranking. rows[..] == UINT32_MAX gives +inf. Only the
 * first counts[q] places of a query's row are read and written. */
struct sac_gather_distances_args {
    const float *queries; /* [query_count][dim] */
    size_t query_count;
    uint32_t dim;
    sac_distance distance;
    const void *const *pages; /* as in sac_nearest_args */
    uint32_t page_rows;
    sac_dtype dtype;
    const uint32_t *rows;   /* [query_count][stride] */
    const uint32_t *counts; /* [query_count]: candidates of each query, at most stride */
    uint32_t stride;
    float *out; /* [query_count][stride] */
};

/* The best of each query's candidates, by (distance, index) as everywhere: out ascends, unused places hold
 * +inf and UINT32_MAX. Candidates whose index is UINT32_MAX are left out. */
struct sac_select_args {
    const float *distance; /* [query_count][stride] */
    const uint32_t *index; /* [query_count][stride] */
    size_t query_count;
    const uint32_t *counts; /* [query_count]: candidates of each query, at most stride; NULL: stride */
    uint32_t stride;
    uint32_t keep;       /* 1..4096 */
    float *out_distance; /* [query_count][keep] */
    uint32_t *out_index; /* [query_count][keep] */
};

/* Merges what the shards of an index found, each of which numbers its own rows: row r of list l is row
 * r * lists + l of the whole. The lists ascend, unused places last, and so does out. */
struct sac_merge_args {
    const float *distance; /* [lists][query_count][stride] */
    const uint32_t *index; /* [lists][query_count][stride]; UINT32_MAX: unused */
    size_t query_count;
    uint32_t lists; /* 1..SAC_SHARDS_MAX */
    uint32_t stride;
    uint32_t keep;       /* 1..lists * stride */
    float *out_distance; /* [query_count][keep] */
    uint32_t *out_index; /* [query_count][keep] */
};

/* Converts n rows to dtype at the given rows of a paged store (index or reconstruct input). */
struct sac_rows_write_args {
    const float *x; /* [n][dim] */
    size_t n;
    uint32_t dim;
    void *const *pages;
    uint32_t page_rows;
    sac_dtype dtype;
    const uint32_t *rows; /* [n], distinct */
};

/* The other way: reads chosen rows as f32. */
struct sac_rows_read_args {
    const void *const *pages;
    uint32_t page_rows;
    sac_dtype dtype;
    uint32_t dim;
    const uint32_t *rows; /* [n] */
    size_t n;
    float *out; /* [n][dim] */
};

/* ---- product quantizer and inverted lists ---------------------------------------------------------- */

/* A page of an inverted list is one piece of memory (page.h): the codes of 64 entries, then their bias
 * f32[64], then their factors f32[64] where the shape has them, then their slots u32[64]. Codes are
 * sub-quantizer-major, so that one register holds the same sub-quantizer of all of a page's entries:
 *   - nbits 5..8: u8 code[m][64], one byte a code, the high bits 0;
 *   - nbits 4: u8 code[(m + 1) / 2][64], byte t being sub-quantizer 2t in the low four bits, 2t + 1 in the
 *     high.
 * A *position* is page * SAC_PAGE_ROWS + line, over all pages of the pool. */
#define SAC_PAGE_ROWS 64u /* what a register of bytes holds: lists of a hundred entries waste little */

static inline size_t sac_pq_code_bytes(uint32_t m, uint32_t nbits) /* bytes of one entry inside a page */
{
    return nbits == 4 ? (m + 1) / 2 : m;
}

typedef struct sac_pq_shape {
    uint32_t m;     /* sub-quantizers, 1..512 */
    uint32_t nbits; /* 4..8 */
    uint32_t dsub;  /* components of each: the padded dimension is m * dsub */
    bool factors;   /* entries have a factor beside their bias (RaBitQ); nbits is 4 then */
} sac_pq_shape;

/* One inverted list: its chain of pages is chains[first .. first + ceil(row_count / SAC_PAGE_ROWS)), in
 * order; all but the last are full. */
typedef struct sac_list {
    uint32_t first;
    uint32_t row_count;
} sac_list;

/* All lists of an index. */
typedef struct sac_list_pool {
    sac_pq_shape pq;
    uint32_t nlist;
    unsigned char *const *pages; /* by page number */
    const uint32_t *chains;      /* page numbers */
    const sac_list *lists;       /* [nlist] */
} sac_list_pool;

/* Codes of n rows and, for L2, the squared norm of what they decode to. Where centroids is given, what is
 * coded is the residual x - centroid[index], and the norm is |centroid + decoded residual|^2. Nearest
 * codeword by squared L2, ties to the smaller; another order of computation may pick another codeword within
 * 1e-5 of the distance and of the squared lengths of both, and 1e-35. codes are row-major
 * here: u8 [n][m], one byte each whatever nbits. */
struct sac_pq_encode_args {
    sac_pq_shape pq;
    const float *codebook; /* [m][2^nbits][dsub] */
    const float *x;        /* [n][m * dsub] */
    size_t n;
    const float *centroids; /* [.][m * dsub], or NULL */
    const uint32_t *index;  /* [n], or NULL with centroids NULL */
    uint8_t *codes;         /* [n][m] */
    float *norms;           /* [n], or NULL */
};

/* A random rotation in O(dim log dim): out components y of x and zeros, lengths and angles as they were. Each
 * round multiplies all components by signs and mixes a power of two of them (sac_walsh_size(out); walsh.h) by
 * a Walsh-Hadamard transform: the first ones in even rounds, the last ones in odd ones. Those are multiplied
 * by sign / sqrt(how many), the product rounded first. Every variant equals the twin bit for bit. */
#define SAC_ROTATE_ROUNDS 4u
struct sac_rotate_args {
    const float *x; /* [n][in] */
    size_t n;
    uint32_t in, out;   /* 1 <= in <= out */
    const float *signs; /* [SAC_ROTATE_ROUNDS][out], each 1 or -1 */
    float *y;           /* [n][out] */
};

/* RaBitQ with one bit a component (rabitq.h has the formulas): codes, bias and factor of the residuals r =
 * x - centroid[index] of rotated rows. Bit t of code j says that component 4 j + t of r is not negative, so
 * codes are those of a product quantizer with nbits 4, dsub 4 and the codebook {-1, 1}^4. factor = |r|^2 /
 * sum |r|, 0 for r = 0, to 1e-5 relative; bias to 1e-5 * (|c|^2 + |r|^2 + factor * sum |c|). Codes are
 * row-major: u8 [n][dim / 4]. */
#define SAC_RABITQ_DSUB 4u
struct sac_rabitq_encode_args {
    const float *x; /* [n][dim] */
    size_t n;
    uint32_t dim;           /* a multiple of SAC_RABITQ_DSUB */
    const float *centroids; /* [.][dim] */
    const uint32_t *index;  /* [n] */
    sac_distance distance;
    uint8_t *codes; /* [n][dim / SAC_RABITQ_DSUB] */
    float *bias;    /* [n] */
    float *factors; /* [n] */
};

/* Places n entries into pages: the transposition from row-major codes to blocks. Also zeroes nothing. */
struct sac_list_write_args {
    sac_pq_shape pq;
    unsigned char *const *pages;
    const uint8_t *codes;      /* [n][m] */
    const float *bias;         /* [n] */
    const float *factors;      /* [n]; not looked at where the shape has none */
    const uint32_t *slots;     /* [n] */
    const uint32_t *positions; /* [n], distinct */
    size_t n;
};

/* Moves one entry over another (deletion in place: the list's last entry fills the hole). */
struct sac_list_move_args {
    sac_pq_shape pq;
    unsigned char *const *pages;
    uint32_t from, to; /* positions */
};

/* One table per query, whatever the lists: table[q][j][c] = scale * <query[q] sub j, codeword[j][c]>.
 * scale is -2 for L2 and -1 for the inner product. Tolerance: 1e-5 * |q_j||c|. */
struct sac_pq_table_args {
    sac_pq_shape pq;
    const float *codebook; /* [m][2^nbits][dsub] */
    const float *queries;  /* [query_count][m * dsub] */
    size_t query_count;
    float scale;
    float *tables; /* [query_count][m][2^nbits] */
};

/* One probed list for one query. */
typedef struct sac_probe {
    uint32_t list;
    float base; /* added to every entry: |q|^2 - 2 q.c for L2, -q.c for the inner product */
} sac_probe;

/* Bytes behind rough rows that may be read, so that no row needs care. */
#define SAC_ROUGH_SPARE 64u

/* The lists that each query probes: the nearest by centroid, nearest first, nprobes[q] of them or those
 * within reach, and more until they hold needs[q] entries, at most `width`. held[q]: the entries they hold
 * (at most UINT32_MAX), so that the caller sees who needs more than `width`.
 *
 * Lists in groups, for nlist in the thousands: a query looks at the lists of the groups whose heads are
 * nearest (equal distances: the smaller group), as few groups as hold at least sac_probe_compared() lists,
 * and takes the nearest of those; if all of them hold less than it needs, it looks at every list. A device
 * whose sac_ops.probe_groups is false looks at every list anyway.
 *
 * Tolerance: a list or a group may be taken before another one if its distance is larger by less than 1e-2 *
 * (|q|^2 + |c|^2): a CPU chooses by rough rows, whose distances are off by about 1e-3 of that. Of what is
 * taken, the order is that of the exact distances (ties: the smaller list), base is exact to 1e-5 * (|q|^2 +
 * |c|^2), and so are the distances by which reach is judged. */
struct sac_probe_args {
    const float *queries; /* [query_count][dim] */
    size_t query_count;
    uint32_t dim;
    sac_distance distance;
    const float *centroids;      /* [nlist][dim] */
    const float *centroid_norms; /* [nlist], squared */
    /* The centroids again, as SAC_I8 rows [nlist] that rows_write made, and SAC_ROUGH_SPARE bytes; or NULL.
     */
    const void *rough;
    const sac_list *lists; /* [nlist] */
    uint32_t nlist;
    uint32_t group_count; /* 0: every list is looked at; the next four are NULL */
    /* [group_count + 1], ascending from 0 to nlist: a group's first list, and that of the next one. Groups
     * may be empty. */
    const uint32_t *group_first;
    const float *heads;      /* [group_count][dim]: the mean of a group's centroids */
    const float *head_norms; /* [group_count], squared */
    const void *rough_heads; /* the heads likewise; there exactly where `rough` is */
    const uint32_t *nprobes; /* [query_count], 1..width */
    const uint32_t *needs;   /* [query_count] */
    /* [query_count], >= 1, +inf: no limit; or NULL: no limit for all. L2 only. Probing stops before the first
     * list out of reach (reach.h), with nprobes[q] at the latest; not before the first of all, nor for a
     * query whose distance from that is 0, nor before needs[q] are met. */
    const float *reaches;
    uint32_t width;    /* 1..min(nlist, 4096) */
    sac_probe *probes; /* [query_count][width]; places past counts[q] are undefined */
    uint32_t *counts;  /* [query_count] */
    uint32_t *held;    /* [query_count] */
};

/* Lists that a query which probes so many of nlist is compared with, at least, where they are in groups: by a
 * model of a million SIFT descriptors in 1000, 2000, 4000 and 8192 lists and 2 sqrt(nlist) groups, so many
 * that of the true neighbours in the lists that it would probe else it loses 0.4 %; and more for many probes,
 * where that would be half of all that is missed (8192 lists, 200 probes: 0.4 % became 0.05 %). */
static inline uint32_t sac_probe_compared(uint32_t nlist, uint32_t nprobe)
{
    float few = powf((float)nlist, 0.7f) * (0.7f + 0.34f * log2f((float)(nprobe > 4 ? nprobe : 4))) *
                (1.0f + (float)nprobe / 400.0f);
    uint32_t wanted = few > 2.0f * (float)nprobe ? (uint32_t)few : 2 * nprobe;

    return wanted < nlist ? wanted : nlist;
}

/* In which order a scan goes about its (query, list) pairs. */
typedef enum sac_schedule {
    SAC_QUERY_MAJOR, /* each query looks up its codes in its table: for few queries a list */
    SAC_LIST_MAJOR,  /* each list is decoded once and multiplied with all queries that probe it */
} sac_schedule;

/* The depths[q] nearest entries over each query's probes: approximate distance
 *     base + bias[entry] + scale * <query, decoded residual>  =  base + bias[entry] + sum_j table[j][code_j]
 * or, where the shape has factors,
 *     base + bias[entry] + factor[entry] * sum_j table[j][code_j]
 * which is for query-major only.
 * Results ascend by (distance, slot); unused places of the first depths[q] hold +inf and UINT32_MAX. Queries
 * are independent of each other. Tables, bases and queries are finite.
 *
 * Tolerance: query-major may choose by tables rounded to 8 bits (unit u = the largest range over j of a table
 * row, divided by 255), list-major by query and decoded residual rounded to 8 bits or finer: near the cut
 * other entries may be kept within 2 e, with e = m * u / 2 (times the largest factor among the probes' pages)
 * or e = 2^-7 * |scale| * |q| * the longest residual that the codebook can give. They must be few: where the
 * entries around the cut differ by less than rounding moves them, the choice is by f32. The distances and
 * their order are those of the f32 table with query-major, to 1e-5 * (|base| + |bias| + |factor| * sum_j max
 * |table[j]|); list-major's may differ by e. (The CPU's query-major gives the twin's results to the bit: what
 * is rounded only decides who is looked at.) */
struct sac_pq_scan_args {
    sac_list_pool pool;
    sac_schedule schedule; /* one that sac_ops.pq_scan_schedules names */
    float scale;           /* -2 for L2, -1 for the inner product */
    const float *codebook; /* list-major: [m][2^nbits][dsub] */
    const float *queries;  /* list-major: [query_count][m * dsub] */
    const float *tables;   /* query-major: [query_count][m][2^nbits] of pq_table */
    size_t query_count;
    const sac_probe *probes;      /* [query_count][probe_stride], nearest list first */
    const uint32_t *probe_counts; /* [query_count], 0..probe_stride */
    uint32_t probe_stride;
    const uint32_t *depths; /* [query_count], 1..depth_stride */
    uint32_t depth_stride;  /* 1..4096 */
    /* For each query a bitmap over slots of what it may find, or a NULL for all; or NULL: all, for all. */
    const uint64_t *const *filters;
    float *out_distance; /* [query_count][depth_stride] */
    uint32_t *out_slot;  /* [query_count][depth_stride] */
};

/* ---- pictures -------------------------------------------------------------------------------------- */

typedef enum sac_filter { SAC_FILTER_BILINEAR, SAC_FILTER_BICUBIC } sac_filter;

/* Antialiased resize of 8-bit RGB: the box is scaled to full_width x full_height, of which a window is
 * computed. The result is that of Pillow's Image.resize(full, filter, box), cut to the window, at every
 * sample: separable, the filter widened by the scale when shrinking (bicubic a = -0.5), weights in fixed
 * point of 22 bits, rounded to 8 bits between the passes, columns first. Every variant equals the twin bit
 * for bit; Pillow is met within 1 of 255. Work and workspace depend on the window, not on the full size.
 * For one picture, on whoever prepares it: a GPU has no such slot, it scales a batch as it cuts it into
 * patches. */
struct sac_resize_args {
    const uint8_t *from; /* [from_height][from_width][3], any alignment */
    uint32_t from_width, from_height;
    size_t from_stride;                   /* bytes from row to row, >= 3 * from_width */
    double box[4];                        /* left, top, right, bottom in source pixels; within the source */
    uint32_t full_width, full_height;     /* >= 1 */
    uint32_t window_x, window_y;          /* the window's corner in the full result */
    uint32_t window_width, window_height; /* it lies within the full result; 0: nothing to do */
    uint8_t *to;                          /* [window_height][window_width][3], any alignment */
    size_t to_stride;                     /* bytes from row to row of `to`, >= 3 * window_width */
    sac_filter filter;
};

/* A picture and where it lies in an encoder's input: its whole is scaled to full_width x full_height, as
 * `resize` does it, and a window of that lands at (to_x, to_y). What it leaves of the input has pixel value
 * 0. A picture whose full size is its own is not scaled. */
struct sac_placed_picture {
    const uint8_t *pixels; /* [height][width][3], any alignment */
    size_t stride;         /* bytes from row to row, >= 3 * width */
    uint32_t width, height;
    uint32_t full_width, full_height;     /* all four >= 1 */
    uint32_t window_x, window_y;          /* the window's corner in the full result */
    uint32_t window_width, window_height; /* it lies within the full result and, at its place, in the input */
    uint32_t to_x, to_y;                  /* where it lands */
};

/* Pictures of any sizes as the rows of the patch product, scaled, normalised and laid out:
 * out[i][py * (w/p) + px][c * p * p + y * p + x] = pixel * scale[c] + shift[c], in f32, the product rounded
 * before the sum, then rounded to dtype. Every variant equals the twin bit for bit. */
struct sac_patchify_args {
    const struct sac_placed_picture *pictures; /* [n] */
    size_t n;
    uint32_t width, height, patch; /* of the input; patch divides both */
    sac_filter filter;
    float scale[3], shift[3]; /* 1/(255 std), -mean/std */
    sac_dtype dtype;          /* of out: SAC_F32 or SAC_BF16 */
    void *out;                /* [n][(h/p)*(w/p)][3*p*p]; it may begin at any picture of a larger array */
};

/* ---- transformer ------------------------------------------------------------------------------------ */

typedef enum sac_activation {
    SAC_ACTIVATION_NONE,
    SAC_ACTIVATION_GELU_ERF,   /* x/2 (1 + erf(x/sqrt 2)) */
    SAC_ACTIVATION_GELU_TANH,  /* the tanh approximation */
    SAC_ACTIVATION_GELU_QUICK, /* x sigmoid(1.702 x), OpenAI's CLIP */
    SAC_ACTIVATION_SWIGLU,     /* two halves: silu(a) * b; y has out / 2 columns (DINOv2 giant) */
} sac_activation;

/* A layer of a network: a weight matrix packed for this device, its bias, and what becomes of the product.
 * Made once, used by any number of streams at a time. */
typedef struct sac_linear sac_linear;

struct sac_linear_params {
    uint32_t in, out;    /* >= 1; out is even for SWIGLU */
    const float *weight; /* host [out][in] */
    const float *bias;   /* host [out], or NULL */
    sac_dtype
        precision; /* of x, of the packed weight and of the product: SAC_F32, or SAC_BF16 with sums in f32 */
    sac_dtype y_dtype; /* SAC_F32 or SAC_BF16 */
    sac_activation activation;
    bool residual; /* y += instead of y =; activation NONE and y_dtype SAC_F32 then */
};

/* y = activation(x W^T + b), or y += x W^T + b. Every row is computed as it would be alone: on ref and cpu
 * its result does not depend, to the bit, on how many rows there are or on the number of threads; on a GPU
 * another number of rows may mean another order of additions, within the tolerance. NaN and infinity stay in
 * their row. Tolerance before the activation: 1e-5 * sum |x||w| with f32, after rounding x and w for bf16
 * too; a bf16 result adds 2^-7 relative, and 2^-8 of the bias, which may be rounded as well. Activations
 * add, of 1 + |value|, 2e-6 where y is f32 and 5e-4 where it is bf16: there GELU by erf may be the tanh
 * approximation, which is off by 4.8e-4 at most. */
struct sac_linear_args {
    const sac_linear *linear;
    const void *x; /* [rows][in] of the linear's precision */
    size_t rows;
    void *y; /* [rows][out] of its y_dtype; x and y do not overlap */
};

/* y = (x - mean) / sqrt(var + eps) * weight + bias over the last axis; mean and variance in f32, two
 * passes. x rows may be strided (the class token of each picture). x and y may be the same where they have
 * the same layout. Tolerance: 1e-5 * (1 + |y|), a bf16 result adds 2^-7 relative. */
struct sac_layer_norm_args {
    const float *x;
    size_t x_stride; /* floats from row to row */
    size_t rows;
    uint32_t width;
    const float *weight, *bias; /* [width] */
    float eps;
    void *y; /* [rows][width] of y_dtype */
    sac_dtype y_dtype;
};

/* softmax(scale q k^T) v for each picture and head. Row t of picture i of q is at
 * q + (i * q_tokens + t) * q_stride, its head h at + h * head_dim; k and v likewise with kv_tokens. q_stride
 * 0 with q_tokens 1: one query for all pictures (attention pooling). A picture's result does not depend on n.
 * Any finite scores; a NaN spoils its own picture and head only. Tolerance: 1e-5 * max |v| in f32; in bf16
 * probabilities may be rounded to bf16 before they meet v: 2^-7 * max |v|. */
struct sac_attention_args {
    const void *q, *k, *v;      /* of dtype */
    size_t q_stride, kv_stride; /* elements from token to token */
    size_t n;                   /* pictures */
    uint32_t q_tokens, kv_tokens, heads, head_dim;
    float scale;     /* > 0 */
    sac_dtype dtype; /* of q, k, v and y: SAC_F32 or SAC_BF16; sums in f32 */
    void *y;         /* [n][q_tokens][heads * head_dim] */
};

/* Tokens of each picture: the prefix rows first (class token, registers), then the patches, each with its
 * position added: out[i][t] = (t < prefix_count ? prefix[t] : patch[i][t - prefix_count]) + position[t]. */
struct sac_tokens_args {
    const float *patches;  /* [n][patch_count][width] */
    const float *prefix;   /* [prefix_count][width], or NULL with prefix_count 0 */
    const float *position; /* [prefix_count + patch_count][width] */
    size_t n;
    uint32_t prefix_count, patch_count, width;
    float *out; /* [n][prefix_count + patch_count][width] */
};

/* Divides each row by its length, in place. A row whose length is not finite and greater than 0 - zeros, a
 * NaN, an infinity - stays as it is and is counted. Squares are summed in f64: any other finite f32
 * components have a length, and the row comes out right, also where their squares overflow or vanish in f32.
 * Tolerance: 1e-6 * |value|, or the last bit of a denormal value. */
struct sac_unit_rows_args {
    float *x; /* [rows][width] */
    size_t rows;
    uint32_t width;
    uint32_t *spoiled; /* one word: how many rows have been left as they were; written also with rows == 0 */
};

/* Slots of the search path are filled on every device; those of pictures and transformers may be NULL on a
 * device that leaves them to its host (sac_device_host). */
struct sac_ops {
    sac_status (*norms)(sac_stream *s, const struct sac_norms_args *a);
    sac_status (*assign)(sac_stream *s, const struct sac_assign_args *a);
    size_t (*assign_scratch)(const sac_device *d, const struct sac_assign_args *a);
    sac_status (*cluster_sums)(sac_stream *s, const struct sac_cluster_sums_args *a);
    size_t (*cluster_sums_scratch)(const sac_device *d, const struct sac_cluster_sums_args *a);
    sac_status (*nearest)(sac_stream *s, const struct sac_nearest_args *a);
    size_t (*nearest_scratch)(const sac_device *d, const struct sac_nearest_args *a);
    sac_status (*gather_distances)(sac_stream *s, const struct sac_gather_distances_args *a);
    sac_status (*select)(sac_stream *s, const struct sac_select_args *a);
    size_t (*select_scratch)(const sac_device *d, const struct sac_select_args *a);
    sac_status (*merge)(sac_stream *s, const struct sac_merge_args *a);
    sac_status (*rows_write)(sac_stream *s, const struct sac_rows_write_args *a);
    sac_status (*rows_read)(sac_stream *s, const struct sac_rows_read_args *a);

    sac_status (*pq_encode)(sac_stream *s, const struct sac_pq_encode_args *a);
    size_t (*pq_encode_scratch)(const sac_device *d, const struct sac_pq_encode_args *a);
    /* NULL, both, on a device without RaBitQ: it is given no pool with factors then. */
    sac_status (*rotate)(sac_stream *s, const struct sac_rotate_args *a);
    sac_status (*rabitq_encode)(sac_stream *s, const struct sac_rabitq_encode_args *a);
    sac_status (*list_write)(sac_stream *s, const struct sac_list_write_args *a);
    sac_status (*list_move)(sac_stream *s, const struct sac_list_move_args *a);
    sac_status (*probe)(sac_stream *s, const struct sac_probe_args *a);
    size_t (*probe_scratch)(const sac_device *d, const struct sac_probe_args *a);
    bool probe_groups;          /* probe makes use of groups and of rough rows */
    uint32_t pq_scan_schedules; /* bit 1 << sac_schedule: those that this device has */
    sac_status (*pq_table)(sac_stream *s, const struct sac_pq_table_args *a);
    sac_status (*pq_scan)(sac_stream *s, const struct sac_pq_scan_args *a);
    size_t (*pq_scan_scratch)(const sac_device *d, const struct sac_pq_scan_args *a);

    sac_status (*resize)(sac_stream *s, const struct sac_resize_args *a);
    size_t (*resize_scratch)(const sac_device *d, const struct sac_resize_args *a);
    sac_status (*patchify)(sac_stream *s, const struct sac_patchify_args *a);
    /* Looks at the pictures where device memory is the host's; with pictures NULL, none of them is scaled. */
    size_t (*patchify_scratch)(const sac_device *d, const struct sac_patchify_args *a);

    /* The precision in which this device does linear fastest: SAC_BF16 only where it has instructions for it.
     */
    sac_dtype (*linear_precision)(const sac_device *d);
    /* SAC_UNSUPPORTED where the device cannot do bf16 products at all. */
    sac_status (*linear_open)(sac_device *d, const struct sac_linear_params *p, sac_linear **out,
                              sac_error *err);
    void (*linear_close)(sac_linear *linear); /* NULL is allowed */
    sac_status (*linear)(sac_stream *s, const struct sac_linear_args *a);
    /* Enough for any number of rows: only a->linear is looked at. */
    size_t (*linear_scratch)(const sac_device *d, const struct sac_linear_args *a);
    sac_status (*layer_norm)(sac_stream *s, const struct sac_layer_norm_args *a);
    sac_status (*attention)(sac_stream *s, const struct sac_attention_args *a);
    size_t (*attention_scratch)(const sac_device *d, const struct sac_attention_args *a);
    sac_status (*tokens)(sac_stream *s, const struct sac_tokens_args *a);
    sac_status (*unit_rows)(sac_stream *s, const struct sac_unit_rows_args *a);
};

#endif
