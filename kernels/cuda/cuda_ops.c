/* The CUDA device's table, in the order of ops.h. Of pictures and transformers, slots that are not here are
 * left to the host (sac_device_host). */
#include "kernels/cuda/cuda.h"

void sac_cuda_ops_fill(struct sac_ops *ops)
{
    ops->norms = sac_norms_cuda;
    ops->assign = sac_assign_cuda;
    ops->assign_scratch = sac_assign_scratch_cuda;
    ops->cluster_sums = sac_cluster_sums_cuda;
    ops->cluster_sums_scratch = sac_cluster_sums_scratch_cuda;
    ops->nearest = sac_nearest_cuda;
    ops->nearest_scratch = sac_nearest_scratch_cuda;
    ops->gather_distances = sac_gather_distances_cuda;
    ops->select = sac_select_cuda;
    ops->select_scratch = sac_select_scratch_cuda;
    ops->merge = sac_merge_cuda;
    ops->rows_write = sac_rows_write_cuda;
    ops->rows_read = sac_rows_read_cuda;
    ops->pq_encode = sac_pq_encode_cuda;
    ops->pq_encode_scratch = sac_pq_encode_scratch_cuda;
    ops->list_write = sac_list_write_cuda;
    ops->list_move = sac_list_move_cuda;
    ops->probe = sac_probe_cuda;
    ops->probe_scratch = sac_probe_scratch_cuda;
    ops->pq_scan_schedules = 1u << SAC_QUERY_MAJOR | 1u << SAC_LIST_MAJOR;
    ops->pq_table = sac_pq_table_cuda;
    ops->pq_scan = sac_pq_scan_cuda;
    ops->pq_scan_scratch = sac_pq_scan_scratch_cuda;
    ops->patchify = sac_patchify_cuda;
    ops->patchify_scratch = sac_patchify_scratch_cuda;
    ops->linear_precision = sac_linear_precision_cuda;
    ops->linear_open = sac_linear_open_cuda;
    ops->linear_close = sac_linear_close_cuda;
    ops->linear = sac_linear_cuda;
    ops->linear_scratch = sac_linear_scratch_cuda;
    ops->layer_norm = sac_layer_norm_cuda;
    ops->attention = sac_attention_cuda;
    ops->attention_scratch = sac_attention_scratch_cuda;
    ops->tokens = sac_tokens_cuda;
    ops->unit_rows = sac_unit_rows_cuda;
}
