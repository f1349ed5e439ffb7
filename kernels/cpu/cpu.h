/* cpu.h -- the CPU's versions of operations; their contracts are in ops.h. The suffix names the instruction
 * set. */
#ifndef SACCADE_CPU_H
#define SACCADE_CPU_H

#include "kernels/backend.h"

/* For __builtin_prefetch(address, 0, ...): as far as L2, where more lines can be on their way at once than L1
 * has places for (5 % of a lone query over codes and vectors that lie in memory). */
#define SAC_PREFETCH_L2 2

/* Upgrades a complete table (the reference's) with everything that `features` allows. */
void sac_cpu_ops_fill(struct sac_ops *ops, uint32_t features);

sac_status sac_resize_avx2(sac_stream *s, const struct sac_resize_args *a);
size_t sac_resize_scratch_avx2(const sac_device *d, const struct sac_resize_args *a);
sac_status sac_resize_vnni(sac_stream *s, const struct sac_resize_args *a);
size_t sac_resize_scratch_vnni(const sac_device *d, const struct sac_resize_args *a);
sac_status sac_patchify_cpu(sac_stream *s, const struct sac_patchify_args *a);
size_t sac_patchify_scratch_cpu(const sac_device *d, const struct sac_patchify_args *a);
sac_status sac_tokens_cpu(sac_stream *s, const struct sac_tokens_args *a);
sac_status sac_list_write_cpu(sac_stream *s, const struct sac_list_write_args *a);
sac_status sac_unit_rows_cpu(sac_stream *s, const struct sac_unit_rows_args *a);

sac_dtype sac_linear_precision_cpu(const sac_device *d);
sac_status sac_linear_open_cpu(sac_device *d, const struct sac_linear_params *p, sac_linear **out,
                               sac_error *err);
void sac_linear_close_cpu(sac_linear *linear);
sac_status sac_linear_cpu(sac_stream *s, const struct sac_linear_args *a);
size_t sac_linear_scratch_cpu(const sac_device *d, const struct sac_linear_args *a);

sac_status sac_layer_norm_avx2(sac_stream *s, const struct sac_layer_norm_args *a);
sac_status sac_layer_norm_avx512(sac_stream *s, const struct sac_layer_norm_args *a);
sac_status sac_layer_norm_bf16(sac_stream *s, const struct sac_layer_norm_args *a);
sac_status sac_attention_avx2(sac_stream *s, const struct sac_attention_args *a);
size_t sac_attention_scratch_avx2(const sac_device *d, const struct sac_attention_args *a);
sac_status sac_attention_avx512(sac_stream *s, const struct sac_attention_args *a);
size_t sac_attention_scratch_avx512(const sac_device *d, const struct sac_attention_args *a);
sac_status sac_attention_amx(sac_stream *s, const struct sac_attention_args *a);
size_t sac_attention_scratch_amx(const sac_device *d, const struct sac_attention_args *a);

sac_status sac_norms_avx2(sac_stream *s, const struct sac_norms_args *a);
sac_status sac_norms_avx512(sac_stream *s, const struct sac_norms_args *a);
size_t sac_assign_scratch_cpu(const sac_device *d, const struct sac_assign_args *a);
sac_status sac_assign_avx2(sac_stream *s, const struct sac_assign_args *a);
sac_status sac_assign_avx512(sac_stream *s, const struct sac_assign_args *a);
sac_status sac_assign_amx(sac_stream *s, const struct sac_assign_args *a);
size_t sac_assign_scratch_amx(const sac_device *d, const struct sac_assign_args *a);
sac_status sac_cluster_sums_avx2(sac_stream *s, const struct sac_cluster_sums_args *a);
size_t sac_nearest_scratch_cpu(const sac_device *d, const struct sac_nearest_args *a);
sac_status sac_nearest_avx2(sac_stream *s, const struct sac_nearest_args *a);
sac_status sac_nearest_avx512(sac_stream *s, const struct sac_nearest_args *a);
sac_status sac_nearest_amx(sac_stream *s, const struct sac_nearest_args *a);
size_t sac_nearest_scratch_amx(const sac_device *d, const struct sac_nearest_args *a);
sac_status sac_gather_distances_avx2(sac_stream *s, const struct sac_gather_distances_args *a);
sac_status sac_gather_distances_avx512(sac_stream *s, const struct sac_gather_distances_args *a);
size_t sac_select_scratch_cpu(const sac_device *d, const struct sac_select_args *a);
sac_status sac_select_cpu(sac_stream *s, const struct sac_select_args *a);
sac_status sac_rows_write_avx2(sac_stream *s, const struct sac_rows_write_args *a);
sac_status sac_rows_read_avx2(sac_stream *s, const struct sac_rows_read_args *a);

size_t sac_pq_encode_scratch_cpu(const sac_device *d, const struct sac_pq_encode_args *a);
sac_status sac_pq_encode_avx2(sac_stream *s, const struct sac_pq_encode_args *a);
sac_status sac_pq_encode_avx512(sac_stream *s, const struct sac_pq_encode_args *a);
sac_status sac_pq_encode_amx(sac_stream *s, const struct sac_pq_encode_args *a);
size_t sac_pq_encode_scratch_amx(const sac_device *d, const struct sac_pq_encode_args *a);
sac_status sac_rotate_avx2(sac_stream *s, const struct sac_rotate_args *a);
sac_status sac_rotate_avx512(sac_stream *s, const struct sac_rotate_args *a);
sac_status sac_rabitq_encode_avx2(sac_stream *s, const struct sac_rabitq_encode_args *a);
sac_status sac_rabitq_encode_avx512(sac_stream *s, const struct sac_rabitq_encode_args *a);
size_t sac_probe_scratch_cpu(const sac_device *d, const struct sac_probe_args *a);
sac_status sac_probe_avx2(sac_stream *s, const struct sac_probe_args *a);
sac_status sac_probe_avx512(sac_stream *s, const struct sac_probe_args *a);
sac_status sac_probe_vnni(sac_stream *s, const struct sac_probe_args *a);
sac_status sac_probe_amx(sac_stream *s, const struct sac_probe_args *a);
size_t sac_probe_scratch_amx(const sac_device *d, const struct sac_probe_args *a);
sac_status sac_pq_table_avx2(sac_stream *s, const struct sac_pq_table_args *a);
sac_status sac_pq_table_avx512(sac_stream *s, const struct sac_pq_table_args *a);
size_t sac_pq_scan_scratch_cpu(const sac_device *d, const struct sac_pq_scan_args *a);
sac_status sac_pq_scan_avx2(sac_stream *s, const struct sac_pq_scan_args *a);
sac_status sac_pq_scan_avx512(sac_stream *s, const struct sac_pq_scan_args *a);
sac_status sac_pq_scan_vbmi(sac_stream *s, const struct sac_pq_scan_args *a);
sac_status sac_pq_scan_amx(sac_stream *s, const struct sac_pq_scan_args *a); /* both schedules */
size_t sac_pq_scan_scratch_amx(const sac_device *d, const struct sac_pq_scan_args *a);

#endif
