/* The reference device: every slot of ops.h, in the order of ops.h. */
#include "kernels/ref/ref.h"

#include "kernels/host_device.h"

#include <stdio.h>

void sac_ref_ops_fill(struct sac_ops *ops)
{
    *ops = (struct sac_ops){
        .norms = sac_norms_ref,
        .assign = sac_assign_ref,
        .assign_scratch = sac_assign_scratch_ref,
        .cluster_sums = sac_cluster_sums_ref,
        .cluster_sums_scratch = sac_cluster_sums_scratch_ref,
        .nearest = sac_nearest_ref,
        .nearest_scratch = sac_nearest_scratch_ref,
        .gather_distances = sac_gather_distances_ref,
        .select = sac_select_ref,
        .select_scratch = sac_select_scratch_ref,
        .merge = sac_merge_ref,
        .rows_write = sac_rows_write_ref,
        .rows_read = sac_rows_read_ref,
        .pq_encode = sac_pq_encode_ref,
        .pq_encode_scratch = sac_pq_encode_scratch_ref,
        .rotate = sac_rotate_ref,
        .rabitq_encode = sac_rabitq_encode_ref,
        .list_write = sac_list_write_ref,
        .list_move = sac_list_move_ref,
        .probe = sac_probe_ref,
        .probe_scratch = sac_probe_scratch_ref,
        .probe_groups = true,
        .pq_scan_schedules = 1u << SAC_QUERY_MAJOR,
        .pq_table = sac_pq_table_ref,
        .pq_scan = sac_pq_scan_ref,
        .pq_scan_scratch = sac_pq_scan_scratch_ref,
        .resize = sac_resize_ref,
        .resize_scratch = sac_resize_scratch_ref,
        .patchify = sac_patchify_ref,
        .patchify_scratch = sac_patchify_scratch_ref,
        .linear_precision = sac_linear_precision_ref,
        .linear_open = sac_linear_open_ref,
        .linear_close = sac_linear_close_ref,
        .linear = sac_linear_ref,
        .linear_scratch = sac_linear_scratch_ref,
        .layer_norm = sac_layer_norm_ref,
        .attention = sac_attention_ref,
        .attention_scratch = sac_attention_scratch_ref,
        .tokens = sac_tokens_ref,
        .unit_rows = sac_unit_rows_ref,
    };
}

static sac_status ref_open(const sac_device_options *options, uint32_t ordinal, uint32_t share,
                           sac_device **out, sac_error *err)
{
    sac_device *device;
    sac_status st = sac_host_device_make(1, options->host_memory, &device, err);

    (void)ordinal;
    (void)share;
    if (st != SAC_OK)
        return st;
    sac_ref_ops_fill(&device->ops);
    snprintf(device->description, sizeof device->description, "ref: plain C, 1 thread");
    *out = device;
    return SAC_OK;
}

const struct sac_backend sac_backend_ref = {.name = "ref", .open = ref_open, SAC_HOST_DEVICE};
