/* ref.h -- the plain C twins of all operations: the truth in tests, the fallback, the baseline in benchmarks.
 * Written to be read: one obvious loop, one thread, no scratch unless there is no other way. Contracts:
 * ops.h. */
#ifndef SACCADE_REF_H
#define SACCADE_REF_H

#include "kernels/backend.h"

/* Fills every slot. */
void sac_ref_ops_fill(struct sac_ops *ops);

sac_status sac_norms_ref(sac_stream *s, const struct sac_norms_args *a);
sac_status sac_assign_ref(sac_stream *s, const struct sac_assign_args *a);
size_t sac_assign_scratch_ref(const sac_device *d, const struct sac_assign_args *a);
sac_status sac_cluster_sums_ref(sac_stream *s, const struct sac_cluster_sums_args *a);
size_t sac_cluster_sums_scratch_ref(const sac_device *d, const struct sac_cluster_sums_args *a);
sac_status sac_nearest_ref(sac_stream *s, const struct sac_nearest_args *a);
size_t sac_nearest_scratch_ref(const sac_device *d, const struct sac_nearest_args *a);
sac_status sac_gather_distances_ref(sac_stream *s, const struct sac_gather_distances_args *a);
sac_status sac_select_ref(sac_stream *s, const struct sac_select_args *a);
size_t sac_select_scratch_ref(const sac_device *d, const struct sac_select_args *a);
sac_status sac_merge_ref(sac_stream *s, const struct sac_merge_args *a);
sac_status sac_rows_write_ref(sac_stream *s, const struct sac_rows_write_args *a);
sac_status sac_rows_read_ref(sac_stream *s, const struct sac_rows_read_args *a);

sac_status sac_pq_encode_ref(sac_stream *s, const struct sac_pq_encode_args *a);
size_t sac_pq_encode_scratch_ref(const sac_device *d, const struct sac_pq_encode_args *a);
sac_status sac_rotate_ref(sac_stream *s, const struct sac_rotate_args *a);
sac_status sac_rabitq_encode_ref(sac_stream *s, const struct sac_rabitq_encode_args *a);
sac_status sac_list_write_ref(sac_stream *s, const struct sac_list_write_args *a);
sac_status sac_list_move_ref(sac_stream *s, const struct sac_list_move_args *a);
sac_status sac_probe_ref(sac_stream *s, const struct sac_probe_args *a);
size_t sac_probe_scratch_ref(const sac_device *d, const struct sac_probe_args *a);
sac_status sac_pq_table_ref(sac_stream *s, const struct sac_pq_table_args *a);
sac_status sac_pq_scan_ref(sac_stream *s, const struct sac_pq_scan_args *a);
size_t sac_pq_scan_scratch_ref(const sac_device *d, const struct sac_pq_scan_args *a);

sac_status sac_resize_ref(sac_stream *s, const struct sac_resize_args *a);
size_t sac_resize_scratch_ref(const sac_device *d, const struct sac_resize_args *a);
sac_status sac_patchify_ref(sac_stream *s, const struct sac_patchify_args *a);
size_t sac_patchify_scratch_ref(const sac_device *d, const struct sac_patchify_args *a);

sac_dtype sac_linear_precision_ref(const sac_device *d);
sac_status sac_linear_open_ref(sac_device *d, const struct sac_linear_params *p, sac_linear **out,
                               sac_error *err);
void sac_linear_close_ref(sac_linear *linear);
sac_status sac_linear_ref(sac_stream *s, const struct sac_linear_args *a);
size_t sac_linear_scratch_ref(const sac_device *d, const struct sac_linear_args *a);
sac_status sac_layer_norm_ref(sac_stream *s, const struct sac_layer_norm_args *a);
sac_status sac_attention_ref(sac_stream *s, const struct sac_attention_args *a);
size_t sac_attention_scratch_ref(const sac_device *d, const struct sac_attention_args *a);
sac_status sac_tokens_ref(sac_stream *s, const struct sac_tokens_args *a);
sac_status sac_unit_rows_ref(sac_stream *s, const struct sac_unit_rows_args *a);

#endif
