/* Sums and counts of clusters: the update step of k-means, by sorting instead of by atomics.
 *
 * Rows are sorted by cluster (stably, so sums are always added in the same order and never depend on timing).
 * Then a block sums CHUNK rows that follow each other in that order. Clusters that lie within a chunk are
 * finished there; a cluster that crosses into the next chunks leaves a part in each, and a second kernel adds
 * those in order. So work is even however uneven the clusters are.
 *
 * Floors on an H200, for n rows of dim components: 4 n dim bytes at 4.3 TB/s, 0.12 us a thousand rows of 128;
 * the sort moves another 8 bytes a row a few times. Arithmetic does not count.
 *
 * nvcc 13.0, sm_90a: sum 32 registers, join 28, count and number 16 or fewer; the sort is CUB's (128
 * registers, 33,856 bytes of shared memory at most). No spills.
 */
#include "kernels/cuda/cuda.h"

#include "kernels/cuda/launch.cuh"

#include <assert.h>
#include <cub/cub.cuh>

namespace
{

enum {
    THREADS = 128, /* one component each */
    CHUNK = 256,   /* rows */
    AHEAD = 8,     /* rows whose loads are in flight together */
};

/* Rows in the order of their clusters. */
struct order {
    const uint32_t *cluster; /* [n], ascending */
    const uint32_t *row;     /* [n] */
    float *head, *tail;      /* [chunks][dim]: parts of the chunk's first and last cluster */
};

__global__ void number_kernel(uint32_t *rows, size_t n)
{
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x)
        rows[i] = (uint32_t)i;
}

__global__ void count_kernel(const uint32_t *index, size_t n, uint32_t *counts)
{
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x)
        atomicAdd(&counts[index[i]], 1u);
}

/* Where the sum of a run of rows belongs. A run that began in an earlier chunk is that cluster's head part
 * here; one that goes on in the next chunk, and began here, is its tail part. */
__device__ float *run_target(const struct sac_cluster_sums_args &a, const struct order &o, size_t first,
                             size_t end, uint32_t cluster)
{
    size_t chunk = first / CHUNK, start = chunk * CHUNK;

    if (first == start && start > 0 && o.cluster[start - 1] == cluster)
        return o.head + chunk * a.dim;
    if (end == start + CHUNK && end < a.n && o.cluster[end] == cluster)
        return o.tail + chunk * a.dim;
    return a.sums + (size_t)cluster * a.dim;
}

__global__ void __launch_bounds__(THREADS) sum_kernel(struct sac_cluster_sums_args a, struct order o)
{
    size_t start = (size_t)blockIdx.x * CHUNK, stop = min(start + CHUNK, a.n);
    uint32_t d = blockIdx.y * THREADS + threadIdx.x;

    if (d >= a.dim)
        return;
    for (size_t first = start, end; first < stop; first = end) {
        uint32_t cluster = o.cluster[first];
        float sum = 0.0f;

        for (end = first; end < stop && o.cluster[end] == cluster;) {
            float values[AHEAD];
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                size_t at = end + i;
                values[i] = at < stop && o.cluster[at] == cluster ? a.x[(size_t)o.row[at] * a.dim + d] : 0.0f;
            }
#pragma unroll
            for (int i = 0; i < AHEAD; i++)
                sum += values[i];
            for (int i = 0; i < AHEAD && end < stop && o.cluster[end] == cluster; i++)
                end++;
        }
        run_target(a, o, first, end, cluster)[d] = sum;
    }
}

/* Adds up the parts of the cluster that begins in this chunk and goes on in the next. */
__global__ void __launch_bounds__(THREADS) join_kernel(struct sac_cluster_sums_args a, struct order o)
{
    size_t end = ((size_t)blockIdx.x + 1) * CHUNK, start = end - CHUNK;
    uint32_t d = blockIdx.y * THREADS + threadIdx.x, cluster;
    float sum;

    if (end >= a.n || d >= a.dim)
        return;
    cluster = o.cluster[end];
    if (o.cluster[end - 1] != cluster || (start > 0 && o.cluster[start - 1] == cluster))
        return; /* none goes on, or it began earlier */
    sum = o.tail[blockIdx.x * (size_t)a.dim + d];
    for (; end < a.n && o.cluster[end] == cluster; end += CHUNK)
        sum += o.head[end / CHUNK * a.dim + d];
    a.sums[(size_t)cluster * a.dim + d] = sum;
}

int cluster_bits(uint32_t k)
{
    int bits = 1;

    while (bits < 32 && (k - 1) >> bits != 0)
        bits++;
    return bits;
}

/* What the sort needs depends on the chip: on the one that is the thread's. */
size_t sort_bytes(const struct sac_cluster_sums_args *a)
{
    const uint32_t *none = NULL;
    size_t bytes = 0;

    if (cub::DeviceRadixSort::SortPairs(NULL, bytes, none, (uint32_t *)NULL, none, (uint32_t *)NULL, a->n, 0,
                                        cluster_bits(a->k), (cudaStream_t)0) != cudaSuccess)
        return SIZE_MAX;
    return bytes;
}

size_t chunk_count(const struct sac_cluster_sums_args *a)
{
    return (a->n + CHUNK - 1) / CHUNK;
}

} // namespace

extern "C" size_t sac_cluster_sums_scratch_cuda(const sac_device *d, const struct sac_cluster_sums_args *a)
{
    size_t numbers = sac_scratch_size(a->n, sizeof(uint32_t)), bytes;

    (void)cudaSetDevice(((const sac_cuda_device *)d)->ordinal);
    bytes = sac_scratch_add(numbers, sac_scratch_add(numbers, numbers));
    bytes = sac_scratch_add(bytes, sac_scratch_size(chunk_count(a), 2 * a->dim * sizeof(float)));
    return sac_scratch_add(bytes, sac_scratch_size(sort_bytes(a), 1));
}

extern "C" sac_status sac_cluster_sums_cuda(sac_stream *s, const struct sac_cluster_sums_args *a)
{
    cudaStream_t stream = sac_cuda_stream_of(s);
    unsigned blocks = 4 * sac_cuda_device_of(s)->multiprocessors, slices = (a->dim + THREADS - 1) / THREADS;
    size_t temporary_bytes, chunks = chunk_count(a);
    dim3 grid((unsigned)chunks, slices);
    uint32_t *cluster, *row, *number;
    struct order o;
    void *temporary;
    cudaError_t error;

    assert(a->k >= 1 && a->dim >= 1 && a->n <= UINT32_MAX);
    error = cudaMemsetAsync(a->sums, 0, (size_t)a->k * a->dim * sizeof *a->sums, stream);
    if (error == cudaSuccess)
        error = cudaMemsetAsync(a->counts, 0, a->k * sizeof *a->counts, stream);
    if (error != cudaSuccess || a->n == 0)
        return sac_cuda_status(s->device, error);
    sac_scratch_reset(s);
    temporary_bytes = sort_bytes(a);
    cluster = (uint32_t *)sac_scratch_take(s, a->n, sizeof *cluster);
    row = (uint32_t *)sac_scratch_take(s, a->n, sizeof *row);
    number = (uint32_t *)sac_scratch_take(s, a->n, sizeof *number);
    o.head = (float *)sac_scratch_take(s, chunks, 2 * a->dim * sizeof(float));
    temporary = sac_scratch_take(s, temporary_bytes, 1);
    if (cluster == NULL || row == NULL || number == NULL || o.head == NULL || temporary == NULL)
        return SAC_DEVICE_MEMORY;
    o.cluster = cluster;
    o.row = row;
    o.tail = o.head + chunks * a->dim;
    error = SAC_LAUNCH(number_kernel, blocks, THREADS, 0, stream, number, a->n);
    if (error == cudaSuccess)
        error = SAC_LAUNCH(count_kernel, blocks, THREADS, 0, stream, a->index, a->n, a->counts);
    if (error == cudaSuccess)
        error = cub::DeviceRadixSort::SortPairs(temporary, temporary_bytes, a->index, cluster, number, row,
                                                a->n, 0, cluster_bits(a->k), stream);
    if (error == cudaSuccess)
        error = SAC_LAUNCH(sum_kernel, grid, THREADS, 0, stream, *a, o);
    if (error == cudaSuccess)
        error = SAC_LAUNCH(join_kernel, grid, THREADS, 0, stream, *a, o);
    return sac_cuda_status(s->device, error);
}
