/* pq_scan.cu -- a scan of inverted lists, by the schedule that its caller asks for: query-major is
 * pq_scan_queries.cu, list-major pq_scan_lists.cu. Which of them pays is the engine's to find out. */
#include "kernels/cuda/cuda.h"

sac_status sac_pq_scan_cuda(sac_stream *s, const struct sac_pq_scan_args *a)
{
    return a->schedule == SAC_LIST_MAJOR ? sac_pq_scan_lists_cuda(s, a) : sac_pq_scan_queries_cuda(s, a);
}

size_t sac_pq_scan_scratch_cuda(const sac_device *d, const struct sac_pq_scan_args *a)
{
    return a->schedule == SAC_LIST_MAJOR ? sac_pq_scan_lists_scratch_cuda(d, a)
                                         : sac_pq_scan_queries_scratch_cuda(d, a);
}
