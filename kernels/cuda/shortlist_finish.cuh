/* shortlist_finish.cuh -- the second half of every search by whole vectors: a block takes the best of a
 * query's lists (shortlist.h), computes their distances exactly and sorts them by (distance, row). */
#ifndef SACCADE_CUDA_SHORTLIST_FINISH_CUH
#define SACCADE_CUDA_SHORTLIST_FINISH_CUH

#include "kernels/cuda/row_distance.cuh"
#include "kernels/cuda/select.cuh"
#include "kernels/cuda/shortlist.h"
#include "kernels/cuda/warp.cuh"

/* What a finishing kernel knows of the lists, by value. */
struct sac_shortlist_finish {
    const uint64_t *keys;
    const uint32_t *counts;
    uint32_t capacity, keep, roomy;
    uint32_t slices; /* lists of a query; 0: as the stream split them */
    struct sac_stream_split split;
    uint32_t places; /* of keys in shared memory */
    /* The queries whose lists these are, of which only the device knows how many; or NULL: all. */
    const uint32_t *chosen, *chosen_count;
    uint32_t query_count;
    struct sac_row_source rows;
    const float *queries;
    uint32_t dim;
    bool l2;
};

/* Few queries get blocks of 1024 threads, since each has hundreds of lists; many get small ones. */
enum { SAC_FINISH_FEW = 1024, SAC_FINISH_MANY = 256 };

/* Describes the lists of a plan; `again`: those that sac_shortlist_refill() made. The kernel runs with
 * *threads and sac_shortlist_finish_bytes() of dynamic shared memory. */
static inline struct sac_shortlist_finish sac_shortlist_finish_of(const sac_device *d,
                                                                  const struct sac_shortlist_args *a,
                                                                  const struct sac_shortlist_plan *plan,
                                                                  const struct sac_shortlist *list,
                                                                  bool again, uint32_t *threads)
{
    size_t most = (((const sac_cuda_device *)d)->shared_bytes_max - 4096) / sizeof(uint64_t), wanted;
    struct sac_shortlist_finish f = {list->keys,
                                     list->counts,
                                     plan->capacity,
                                     plan->keep,
                                     plan->roomy,
                                     plan->products && !again ? plan->slices : 0,
                                     plan->split,
                                     64,
                                     again ? list->doubtful : NULL,
                                     again ? list->doubts : NULL,
                                     (uint32_t)a->query_count,
                                     a->rows,
                                     a->queries,
                                     a->dim,
                                     a->distance == SAC_DISTANCE_L2SQ};

    *threads = plan->products && !again ? SAC_FINISH_MANY : SAC_FINISH_FEW;
    wanted = (size_t)plan->roomy *
             (f.slices != 0 ? f.slices : sac_stream_slices(&f.split, again ? 1 : f.query_count));
    while (f.places < plan->keep)
        f.places *= 2;
    f.places = f.places < plan->keep + *threads ? (plan->keep + *threads + 63) / 64 * 64 : f.places;
    wanted = wanted < most ? wanted : most;
    f.places = f.places < wanted ? (uint32_t)(wanted / 64 * 64) : f.places;
    return f;
}

static inline size_t sac_shortlist_finish_bytes(const struct sac_shortlist_finish *f)
{
    return f->places * sizeof(uint64_t);
}

static __device__ __forceinline__ uint32_t sac_shortlist_finish_count(const struct sac_shortlist_finish *f)
{
    return f->chosen != NULL ? *f->chosen_count : f->query_count;
}

/* Block: everything in the query's lists goes through the reservoir, each warp taking lists of its own. Where
 * there is room for all of them, warps need not wait for each other. */
static inline __device__ void sac_shortlist_collect(const struct sac_shortlist_finish *f, uint32_t at,
                                                    uint32_t slices, struct sac_reservoir *r)
{
    const size_t first = (size_t)at * slices;
    const bool roomy = (uint64_t)slices * f->roomy <= f->places;

    for (uint32_t slice = sac_warp(), base = 0;; base += 32) {
        const uint64_t *keys;
        uint32_t n = 0;

        for (; slice < slices; slice += blockDim.x / 32, base = 0) {
            n = f->counts[first + slice];
            if (base < n)
                break;
        }
        if (roomy ? slice >= slices : !__syncthreads_or(slice < slices))
            break;
        keys = f->keys + (first + slice) * f->capacity + base;
        sac_reservoir_push_key(r, slice < slices && base + sac_lane() < n ? keys[sac_lane()] : SAC_KEY_NONE);
        if (!roomy)
            sac_reservoir_room(r, blockDim.x);
    }
}

/* Block: replaces the distances of the first `count` keys by exact ones, four keys a warp at a time. */
template <sac_dtype DTYPE, bool WIDE>
static inline __device__ void sac_shortlist_exact(const struct sac_shortlist_finish *f, const float *query,
                                                  uint64_t *keys, uint32_t count)
{
    constexpr uint32_t WIDTH = sac_rows_width(DTYPE, WIDE);

    for (uint32_t base = sac_warp() * 4; base < count; base += blockDim.x / 8) {
        uint32_t i = base + sac_lane() / 8, row = sac_key_index(keys[i < count ? i : base]);
        float distance =
            sac_row_distance<DTYPE, WIDTH>(query, sac_row_source_at(&f->rows, row), f->dim, f->l2);

        if (sac_lane() % 8 == 0 && i < count)
            keys[i] = sac_key(distance, row);
    }
}

/* Block: leaves the query's rows in keys, ascending by exact distance, and returns how many. *cut: no row
 * that was left out had a smaller distance where it was chosen, which for products lacks |query|^2; +inf:
 * none was left out. `at` counts lists, `query` counts queries. Begins with a barrier and ends with one. */
template <sac_dtype DTYPE, bool WIDE>
static inline __device__ uint32_t sac_shortlist_sort(const struct sac_shortlist_finish *f, uint32_t at,
                                                     uint32_t query, struct sac_reservoir_state *state,
                                                     uint64_t *keys, float *cut)
{
    uint32_t slices =
        f->slices != 0 ? f->slices : sac_stream_slices(&f->split, sac_shortlist_finish_count(f));
    struct sac_reservoir r;
    uint32_t count, places = 32;

    sac_reservoir_init(&r, state, keys, f->places, f->keep);
    sac_shortlist_collect(f, at, slices, &r);
    count = sac_reservoir_sort(&r);
    *cut = count < f->keep ? __int_as_float(0x7f800000) : sac_key_distance(keys[count - 1]);
    __syncthreads(); /* all know the cut before keys change */
    sac_shortlist_exact<DTYPE, WIDE>(f, f->queries + (size_t)query * f->dim, keys, count);
    __syncthreads();
    while (places < count)
        places *= 2;
    sac_keys_sort(keys, places);
    return count;
}

#endif
