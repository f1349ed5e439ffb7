/* cuda.h -- the inside of the CUDA backend: what its device, its streams and its kernels share.
 *
 * The module is libsaccade_cuda.so; the registry loads it when it is asked for a GPU. Plain C files hold the
 * device, its memory and the table (cuda_device.c, cuda_stream.c, cuda_ops.c); every operation is a .cu file
 * of its name, and what kernels share is in .cuh files.
 *
 * An operation here
 *   - puts its kernels on the stream and returns; it never waits, never copies to the host, never allocates,
 *     and looks at nothing in device memory: launches depend on the counts given by value alone, so that a
 *     recording stays true;
 *   - takes its workspace with sac_scratch_take(), and returns SAC_DEVICE_MEMORY where there is too little;
 *   - returns sac_cuda_status() of its launches.
 * A .cu file is compiled by nvcc, and by a plain C++ compiler for the host run of tests/cuda_host/: so
 * kernels are launched with SAC_LAUNCH (launch.cuh), and inline PTX lives in mma.cuh, async_copy.cuh
 * and exp2.cuh beside its twin. At its top stand the two floors - bytes over bandwidth, operations over rate
 * - and the compiler's report (registers, shared memory, spills) for sm_90a.
 *
 * What a host run cannot show, and so is kept to:
 *   - Blocks hand results to other blocks at the end of a kernel only. What they change for each other before
 *     - counters, limits - are single words under atomics, read through volatile, and old ones are as good.
 *   - A *_sync function names all 32 lanes, so all 32 get there: loops around it run as often for each lane
 *     of a warp, loops around a barrier for each thread of the block. What a lane writes and another of its
 *     warp reads has a __syncwarp() in between; a vote or a shuffle is none.
 *   - __ldg() reads what no block of the same kernel writes.
 *   - Static and dynamic shared memory together fit into 99 KB at the largest arguments, or into what
 *     shared_bytes_max says. Dynamic shared memory is asked for with sac_launch_shared() (launch.cuh) only.
 *   - nvcc fuses a product with the sum behind it. Where the product's own rounding matters, __fmul_rn().
 *   - sac_cuda_stream_of() comes before any call that works on the thread's device: launches, cuBLASLt, CUB.
 *   - What a call leaves for cudaGetLastError() - "not ready" too - is taken from there, or the next launch
 *     reports it. */
#ifndef SACCADE_CUDA_H
#define SACCADE_CUDA_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/backend.h"
#include "kernels/cuda/cuda_ranges.h"
#include "kernels/cuda/cuda_staging.h"

typedef struct sac_cuda_device {
    sac_device base;
    int ordinal;
    uint32_t multiprocessors;
    uint32_t capability;     /* 90 for 9.0 */
    size_t shared_bytes_max; /* that a block may have, opted in */
    size_t l2_bytes;
    uint64_t budget, used;     /* bytes; used by __atomic builtins */
    sac_cuda_ranges allocated; /* device memory, so that what is freed is known by its size */
    void *blas;                /* cublasLtHandle_t, made with the first layer (cuda_product.c) */
} sac_cuda_device;

typedef struct sac_cuda_stream {
    sac_stream base;
    cudaStream_t stream;
    cudaEvent_t done; /* for waits that sleep */
    sac_cuda_staging staging;
    bool recording;
    sac_status recorded; /* what has gone wrong since the recording began */
} sac_cuda_stream;

static inline const sac_cuda_device *sac_cuda_device_of(const sac_stream *s)
{
    return (const sac_cuda_device *)s->device;
}

/* Also makes its device the calling thread's, which launches ask for. */
static inline cudaStream_t sac_cuda_stream_of(const sac_stream *s)
{
    (void)cudaSetDevice(sac_cuda_device_of(s)->ordinal);
    return ((const sac_cuda_stream *)s)->stream;
}

/* What an error of the runtime means for us, once, clearing it where it can be cleared: SAC_OK;
 * SAC_DEVICE_MEMORY; SAC_UNSUPPORTED (no code for this chip in the module); SAC_INTERNAL (a call or a launch
 * of ours was wrong; the device is well); or SAC_DEVICE_LOST, and the device is marked as lost. */
sac_status sac_cuda_status(sac_device *device, cudaError_t error);

/* ---- the backend ------------------------------------------------------------------------------------ */

/* What the module exports; the library finds it by name (backend.h). */
__attribute__((visibility("default"))) const struct sac_backend *sac_cuda_backend(void);

/* The table of operations (cuda_ops.c). */
void sac_cuda_ops_fill(struct sac_ops *ops);

/* Memory (cuda_memory.c). */
void sac_cuda_memory(const sac_device *device, sac_device_memory *out);
sac_status sac_cuda_buffer_alloc(sac_device *device, size_t bytes, void **out, sac_error *err);
void sac_cuda_buffer_free(sac_device *device, void *buffer);
sac_status sac_cuda_host_alloc(sac_device *device, size_t bytes, void **out, sac_error *err);
void sac_cuda_host_free(sac_device *device, void *memory);
bool sac_cuda_host_owns(const void *memory, size_t bytes); /* all of them are of sac_cuda_host_alloc */

/* Order (cuda_stream.c). */
sac_status sac_cuda_stream_open(sac_device *device, sac_stream **out, sac_error *err);
void sac_cuda_stream_close(sac_stream *stream);
sac_status sac_cuda_stream_scratch(sac_stream *stream, size_t bytes, sac_error *err);
sac_status sac_cuda_upload(sac_stream *stream, void *to, const void *from, size_t bytes);
sac_status sac_cuda_download(sac_stream *stream, void *to, const void *from, size_t bytes);
sac_status sac_cuda_copy(sac_stream *stream, void *to, const void *from, size_t bytes);
sac_status sac_cuda_copy_rows(sac_stream *stream, void *to, size_t to_stride, const void *from,
                              size_t from_stride, size_t bytes, size_t rows);
sac_status sac_cuda_clear(sac_stream *stream, void *to, size_t bytes);
sac_status sac_cuda_wait(sac_stream *stream);
sac_status sac_cuda_event_open(sac_device *device, sac_event **out, sac_error *err);
void sac_cuda_event_close(sac_event *event);
sac_status sac_cuda_event_record(sac_event *event, sac_stream *stream);
sac_status sac_cuda_await(sac_stream *stream, const sac_event *event);
sac_status sac_cuda_record_begin(sac_stream *stream);
sac_status sac_cuda_record_end(sac_stream *stream, sac_recording **out);
sac_status sac_cuda_play(sac_recording *recording, sac_stream *stream);
void sac_cuda_recording_free(sac_recording *recording);

/* ---- operations ------------------------------------------------------------------------------------- */

sac_status sac_norms_cuda(sac_stream *s, const struct sac_norms_args *a);
sac_status sac_assign_cuda(sac_stream *s, const struct sac_assign_args *a);
size_t sac_assign_scratch_cuda(const sac_device *d, const struct sac_assign_args *a);
sac_status sac_cluster_sums_cuda(sac_stream *s, const struct sac_cluster_sums_args *a);
size_t sac_cluster_sums_scratch_cuda(const sac_device *d, const struct sac_cluster_sums_args *a);
sac_status sac_nearest_cuda(sac_stream *s, const struct sac_nearest_args *a);
size_t sac_nearest_scratch_cuda(const sac_device *d, const struct sac_nearest_args *a);
sac_status sac_gather_distances_cuda(sac_stream *s, const struct sac_gather_distances_args *a);
sac_status sac_select_cuda(sac_stream *s, const struct sac_select_args *a);
size_t sac_select_scratch_cuda(const sac_device *d, const struct sac_select_args *a);
sac_status sac_merge_cuda(sac_stream *s, const struct sac_merge_args *a);
sac_status sac_rows_write_cuda(sac_stream *s, const struct sac_rows_write_args *a);
sac_status sac_rows_read_cuda(sac_stream *s, const struct sac_rows_read_args *a);
sac_status sac_pq_encode_cuda(sac_stream *s, const struct sac_pq_encode_args *a);
size_t sac_pq_encode_scratch_cuda(const sac_device *d, const struct sac_pq_encode_args *a);
sac_status sac_list_write_cuda(sac_stream *s, const struct sac_list_write_args *a);
sac_status sac_list_move_cuda(sac_stream *s, const struct sac_list_move_args *a);
sac_status sac_probe_cuda(sac_stream *s, const struct sac_probe_args *a);
size_t sac_probe_scratch_cuda(const sac_device *d, const struct sac_probe_args *a);
sac_status sac_pq_table_cuda(sac_stream *s, const struct sac_pq_table_args *a);
sac_status sac_pq_scan_cuda(sac_stream *s, const struct sac_pq_scan_args *a);
size_t sac_pq_scan_scratch_cuda(const sac_device *d, const struct sac_pq_scan_args *a);
sac_status sac_patchify_cuda(sac_stream *s, const struct sac_patchify_args *a);
size_t sac_patchify_scratch_cuda(const sac_device *d, const struct sac_patchify_args *a);
sac_dtype sac_linear_precision_cuda(const sac_device *d);
sac_status sac_linear_open_cuda(sac_device *d, const struct sac_linear_params *p, sac_linear **out,
                                sac_error *err);
void sac_linear_close_cuda(sac_linear *linear);
sac_status sac_linear_cuda(sac_stream *s, const struct sac_linear_args *a);
size_t sac_linear_scratch_cuda(const sac_device *d, const struct sac_linear_args *a);
sac_status sac_layer_norm_cuda(sac_stream *s, const struct sac_layer_norm_args *a);
sac_status sac_attention_cuda(sac_stream *s, const struct sac_attention_args *a);
size_t sac_attention_scratch_cuda(const sac_device *d, const struct sac_attention_args *a);
sac_status sac_tokens_cuda(sac_stream *s, const struct sac_tokens_args *a);
sac_status sac_unit_rows_cuda(sac_stream *s, const struct sac_unit_rows_args *a);

/* Ends sac_cuda_device.blas; NULL is allowed. */
void sac_cuda_blas_close(void *blas);

/* The two schedules of pq_scan: pq_scan.cu chooses, these do the work. */
sac_status sac_pq_scan_queries_cuda(sac_stream *s, const struct sac_pq_scan_args *a);
size_t sac_pq_scan_queries_scratch_cuda(const sac_device *d, const struct sac_pq_scan_args *a);
sac_status sac_pq_scan_lists_cuda(sac_stream *s, const struct sac_pq_scan_args *a);
size_t sac_pq_scan_lists_scratch_cuda(const sac_device *d, const struct sac_pq_scan_args *a);

#ifdef __cplusplus
}
#endif
#endif
