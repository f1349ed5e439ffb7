/* shortlist.h -- the first half of every search by whole vectors (probe, nearest): for each query a short
 * list of rows that has its nearest ones among it. The second half (shortlist_finish.cuh) computes their
 * distances exactly and puts them in order.
 *
 * Two ways lead there:
 *   - products, for batches: rows and queries become panels (panel.cuh), the tensor cores multiply them
 *     (product_tile.cuh), and what passes a query's limit is pushed into one of its lists (shortlist.cuh), of
 *     which it has one for each slice of the rows. Distances are bent by at most what the panels tell.
 *   - the stream, for few queries: every row is read once and compared directly; distances are exact.
 * The stream also is what a batch falls back on, for the queries whose list cannot be proven to be enough. */
#ifndef SACCADE_CUDA_SHORTLIST_H
#define SACCADE_CUDA_SHORTLIST_H

#include "kernels/cuda/panel.cuh"

struct sac_shortlist_args {
    const float *queries; /* [query_count][dim] */
    size_t query_count;
    uint32_t dim;
    sac_distance distance;
    struct sac_row_source rows;
    sac_dtype dtype;
    size_t row_count; /* 1..UINT32_MAX-1 */
    const uint64_t *live;
    const uint64_t *const *filters;
    uint32_t keep; /* rows that the short list of a query shall hold, if there are so many */
};

/* How the stream divides its work: `count` queries, `together` of them at once, over slices of the rows. */
struct sac_stream_split {
    uint32_t together;
    uint32_t steps;  /* that a block takes through all rows */
    uint32_t blocks; /* that read at the full rate; more would make the second half longer */
    uint32_t lists;  /* there is memory for */
};

struct sac_shortlist_plan {
    bool products;
    uint32_t keep, roomy, capacity; /* a list is shortened to keep..roomy keys when it nears capacity */
    size_t group;                   /* queries at a time */
    uint32_t slices;                /* lists of each query; products only */
    uint32_t slab_tiles;            /* tiles of rows that are panels at a time; products only */
    struct sac_stream_split split;
};

/* The memory of a search, and what kernels see of it. */
struct sac_shortlist {
    uint64_t *keys;     /* [lists][capacity]; the lists of a query lie side by side */
    uint32_t *counts;   /* [lists] */
    float *limits;      /* [lists] */
    uint32_t *doubtful; /* [group]: queries that the stream shall search again, */
    uint32_t *doubts;   /* and how many there are */
    uint32_t *most;     /* as in struct sac_panel_fill_args, of the rows */
    struct sac_panel queries, rows;
};

void sac_shortlist_plan(const sac_device *d, const struct sac_shortlist_args *a,
                        struct sac_shortlist_plan *plan);
size_t sac_shortlist_scratch(const struct sac_shortlist_args *a, const struct sac_shortlist_plan *plan);
/* Takes the memory from the stream's arena; false where there is too little. */
bool sac_shortlist_take(sac_stream *s, const struct sac_shortlist_args *a,
                        const struct sac_shortlist_plan *plan, struct sac_shortlist *out);
/* Fills the lists of up to plan->group queries. */
cudaError_t sac_shortlist_fill(sac_stream *s, const struct sac_shortlist_args *a,
                               const struct sac_shortlist_plan *plan, const struct sac_shortlist *list);
/* Fills the lists of the doubtful ones again, by the stream: sac_stream_slices(&plan->split, *doubts) lists
 * each, in the order of list->doubtful. */
cudaError_t sac_shortlist_refill(sac_stream *s, const struct sac_shortlist_args *a,
                                 const struct sac_shortlist_plan *plan, const struct sac_shortlist *list);

/* ---- the stream (shortlist_stream.cu) ---------------------------------------------------------------- */

enum { SAC_STREAM_STEP_MOST = 256 }; /* rows that a query may meet between two looks at its list's room */

struct sac_stream_args {
    const struct sac_shortlist_args *search;
    struct sac_stream_split split;
    const uint32_t *chosen;       /* which queries, or NULL: all */
    const uint32_t *chosen_count; /* of `chosen` */
    /* Either lists, as above; or `nearest` [count], to begin with SAC_KEY_NONE, for the nearest row only. */
    uint32_t keep, roomy, capacity;
    uint64_t *keys;
    uint32_t *counts;
    uint64_t *nearest;
};

/* The split for a search of `count` queries or, as how many are chosen is not known here, for any number;
 * `lists` is then what there is memory for. */
struct sac_stream_split sac_stream_split_of(const sac_device *d, uint32_t dim, size_t row_count, size_t count,
                                            uint32_t lists);
cudaError_t sac_stream_rows_cuda(sac_stream *s, const struct sac_stream_args *a);

#ifdef __CUDACC__
#define SAC_HOST_DEVICE __host__ __device__
#else
#define SAC_HOST_DEVICE
#endif

/* Slices of the rows, each with a list for each query. */
static inline SAC_HOST_DEVICE uint32_t sac_stream_slices(const struct sac_stream_split *split, uint32_t count)
{
    uint32_t groups = (count + split->together - 1) / split->together, slices = split->blocks;

    slices = groups > 0 ? split->blocks / groups : 1;
    slices = count > 0 && slices > split->lists / count ? split->lists / count : slices;
    slices = slices > split->steps ? split->steps : slices;
    return slices > 0 ? slices : 1;
}

#endif
