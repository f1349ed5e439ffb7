# What the module consists of: also read by tests/cuda_host, which builds the same files for the CPU.
set(SACCADE_CUDA_C # on cuda_runtime_api.h, in what C11 and C++17 have in common
  ${CMAKE_CURRENT_LIST_DIR}/cuda_device.c
  ${CMAKE_CURRENT_LIST_DIR}/cuda_memory.c
  ${CMAKE_CURRENT_LIST_DIR}/cuda_ops.c
  ${CMAKE_CURRENT_LIST_DIR}/cuda_ranges.c
  ${CMAKE_CURRENT_LIST_DIR}/cuda_staging.c
  ${CMAKE_CURRENT_LIST_DIR}/cuda_stream.c
)
set(SACCADE_CUDA_SHARED # the module's own copies of what it shares with the library
  ${CMAKE_CURRENT_LIST_DIR}/../scratch.c
  ${CMAKE_CURRENT_LIST_DIR}/../status.c
)
set(SACCADE_CUDA_KERNELS # one file an operation
  ${CMAKE_CURRENT_LIST_DIR}/assign.cu
  ${CMAKE_CURRENT_LIST_DIR}/attention.cu
  ${CMAKE_CURRENT_LIST_DIR}/attention_plain.cu
  ${CMAKE_CURRENT_LIST_DIR}/attention_pool.cu
  ${CMAKE_CURRENT_LIST_DIR}/attention_tile.cu
  ${CMAKE_CURRENT_LIST_DIR}/cluster_sums.cu
  ${CMAKE_CURRENT_LIST_DIR}/gather_distances.cu
  ${CMAKE_CURRENT_LIST_DIR}/layer_norm.cu
  ${CMAKE_CURRENT_LIST_DIR}/linear.cu
  ${CMAKE_CURRENT_LIST_DIR}/list_move.cu
  ${CMAKE_CURRENT_LIST_DIR}/list_scan_bounds.cu
  ${CMAKE_CURRENT_LIST_DIR}/list_scan_convert.cu
  ${CMAKE_CURRENT_LIST_DIR}/list_scan_finish.cu
  ${CMAKE_CURRENT_LIST_DIR}/list_scan_items.cu
  ${CMAKE_CURRENT_LIST_DIR}/list_scan_pairs.cu
  ${CMAKE_CURRENT_LIST_DIR}/list_write.cu
  ${CMAKE_CURRENT_LIST_DIR}/merge.cu
  ${CMAKE_CURRENT_LIST_DIR}/nearest.cu
  ${CMAKE_CURRENT_LIST_DIR}/norms.cu
  ${CMAKE_CURRENT_LIST_DIR}/panel.cu
  ${CMAKE_CURRENT_LIST_DIR}/pq_encode.cu
  ${CMAKE_CURRENT_LIST_DIR}/pq_scan.cu
  ${CMAKE_CURRENT_LIST_DIR}/pq_scan_lists.cu
  ${CMAKE_CURRENT_LIST_DIR}/pq_scan_queries.cu
  ${CMAKE_CURRENT_LIST_DIR}/pq_table.cu
  ${CMAKE_CURRENT_LIST_DIR}/probe.cu
  ${CMAKE_CURRENT_LIST_DIR}/rows_read.cu
  ${CMAKE_CURRENT_LIST_DIR}/rows_write.cu
  ${CMAKE_CURRENT_LIST_DIR}/select.cu
  ${CMAKE_CURRENT_LIST_DIR}/shortlist.cu
  ${CMAKE_CURRENT_LIST_DIR}/shortlist_stream.cu
  ${CMAKE_CURRENT_LIST_DIR}/tokens.cu
  ${CMAKE_CURRENT_LIST_DIR}/unit_rows.cu
)
