/* The CPU device: the reference's table, upgraded slot by slot to the best this machine can run. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/cpu_features.h"
#include "kernels/host_device.h"
#include "kernels/ref/ref.h"

#include <stdio.h>

#if defined(SACCADE_X86)

/* Vectors, product quantizer and inverted lists. */
static void vectors_fill(struct sac_ops *ops, uint32_t features)
{
    if (!(features & SAC_CPU_AVX2))
        return;
    ops->norms = sac_norms_avx2;
    ops->assign = sac_assign_avx2;
    ops->assign_scratch = sac_assign_scratch_cpu;
    ops->cluster_sums = sac_cluster_sums_avx2;
    ops->nearest = sac_nearest_avx2;
    ops->nearest_scratch = sac_nearest_scratch_cpu;
    ops->gather_distances = sac_gather_distances_avx2;
    ops->select = sac_select_cpu;
    ops->select_scratch = sac_select_scratch_cpu;
    ops->rows_write = sac_rows_write_avx2;
    ops->rows_read = sac_rows_read_avx2;
    ops->pq_encode = sac_pq_encode_avx2;
    ops->pq_encode_scratch = sac_pq_encode_scratch_cpu;
    ops->rotate = sac_rotate_avx2;
    ops->rabitq_encode = sac_rabitq_encode_avx2;
    ops->probe = sac_probe_avx2;
    ops->probe_scratch = sac_probe_scratch_cpu;
    ops->pq_table = sac_pq_table_avx2;
    ops->pq_scan = sac_pq_scan_avx2;
    ops->pq_scan_scratch = sac_pq_scan_scratch_cpu;
    if (!(features & SAC_CPU_AVX512))
        return;
    ops->norms = sac_norms_avx512;
    ops->assign = sac_assign_avx512;
    ops->nearest = sac_nearest_avx512;
    ops->gather_distances = sac_gather_distances_avx512;
    ops->pq_encode = sac_pq_encode_avx512;
    ops->rotate = sac_rotate_avx512;
    ops->rabitq_encode = sac_rabitq_encode_avx512;
    ops->probe = sac_probe_avx512;
    ops->pq_table = sac_pq_table_avx512;
    ops->pq_scan = sac_pq_scan_avx512;
    if (features & SAC_CPU_VNNI)
        ops->probe = sac_probe_vnni;
    if ((features & SAC_CPU_VNNI) && (features & SAC_CPU_AMX)) {
        ops->probe = sac_probe_amx;
        ops->probe_scratch = sac_probe_scratch_amx;
    }
    if (features & SAC_CPU_VBMI)
        ops->pq_scan = sac_pq_scan_vbmi;
    if ((features & SAC_CPU_BF16) && (features & SAC_CPU_AMX)) {
        ops->assign = sac_assign_amx;
        ops->assign_scratch = sac_assign_scratch_amx;
        ops->nearest = sac_nearest_amx;
        ops->nearest_scratch = sac_nearest_scratch_amx;
        ops->pq_encode = sac_pq_encode_amx;
        ops->pq_encode_scratch = sac_pq_encode_scratch_amx;
    }
    if ((features & SAC_CPU_VBMI) && (features & SAC_CPU_AMX)) {
        ops->pq_scan_schedules |= 1u << SAC_LIST_MAJOR;
        ops->pq_scan = sac_pq_scan_amx;
        ops->pq_scan_scratch = sac_pq_scan_scratch_amx;
    }
}

#endif

void sac_cpu_ops_fill(struct sac_ops *ops, uint32_t features)
{
    ops->patchify = sac_patchify_cpu;
    ops->patchify_scratch = sac_patchify_scratch_cpu;
    ops->linear_precision = sac_linear_precision_cpu;
    ops->linear_open = sac_linear_open_cpu;
    ops->linear_close = sac_linear_close_cpu;
    ops->linear = sac_linear_cpu;
    ops->linear_scratch = sac_linear_scratch_cpu;
    ops->tokens = sac_tokens_cpu;
    ops->unit_rows = sac_unit_rows_cpu;
    ops->list_write = sac_list_write_cpu;
#if defined(SACCADE_X86)
    vectors_fill(ops, features);
    if (!(features & SAC_CPU_AVX2))
        return;
    ops->resize = sac_resize_avx2;
    ops->resize_scratch = sac_resize_scratch_avx2;
    ops->layer_norm = sac_layer_norm_avx2;
    ops->attention = sac_attention_avx2;
    ops->attention_scratch = sac_attention_scratch_avx2;
    if (!(features & SAC_CPU_AVX512))
        return;
    if (features & SAC_CPU_VNNI) {
        ops->resize = sac_resize_vnni;
        ops->resize_scratch = sac_resize_scratch_vnni;
    }
    ops->layer_norm = sac_layer_norm_avx512;
    ops->attention = sac_attention_avx512;
    ops->attention_scratch = sac_attention_scratch_avx512;
    if (features & SAC_CPU_BF16)
        ops->layer_norm = sac_layer_norm_bf16;
    if ((features & SAC_CPU_AMX) && (features & SAC_CPU_BF16)) {
        ops->attention = sac_attention_amx;
        ops->attention_scratch = sac_attention_scratch_amx;
    }
#else
    (void)features;
#endif
}

static sac_status cpu_open(const sac_device_options *options, uint32_t ordinal, uint32_t share,
                           sac_device **out, sac_error *err)
{
    sac_device *device;
    uint32_t features;
    char text[64];
    sac_status st = sac_cpu_features(options->isa, &features, err);

    (void)ordinal;
    (void)share;
    if (st == SAC_OK)
        st = sac_host_device_make(options->threads, options->host_memory, &device, err);
    if (st != SAC_OK)
        return st;
    device->features = features;
    sac_ref_ops_fill(&device->ops);
    sac_cpu_ops_fill(&device->ops, features);
    sac_cpu_features_text(features, text, sizeof text);
    snprintf(device->description, sizeof device->description, "cpu: %s, %u thread%s", text, device->threads,
             device->threads == 1 ? "" : "s");
    *out = device;
    return SAC_OK;
}

const struct sac_backend sac_backend_cpu = {.name = "cpu", .open = cpu_open, SAC_HOST_DEVICE};
