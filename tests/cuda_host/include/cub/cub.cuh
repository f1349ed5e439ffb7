/* cub.cuh -- what kernels take from CUB, in place of CUB: the same results, by one thread. */
#ifndef CUDA_HOST_CUB_CUH
#define CUDA_HOST_CUB_CUH

#include "kernels/cuda/launch.cuh"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace cub
{

template <typename Key, typename Value>
__global__ void sort_pairs_kernel(const Key *keys_in, Key *keys_out, const Value *values_in,
                                  Value *values_out, size_t n, int begin_bit, int end_bit)
{
    std::vector<size_t> order(n);
    Key mask =
        end_bit - begin_bit >= (int)(8 * sizeof(Key)) ? ~(Key)0 : (((Key)1 << (end_bit - begin_bit)) - 1);

    std::iota(order.begin(), order.end(), (size_t)0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return (keys_in[a] >> begin_bit & mask) < (keys_in[b] >> begin_bit & mask);
    });
    for (size_t i = 0; i < n; i++) {
        keys_out[i] = keys_in[order[i]];
        values_out[i] = values_in[order[i]];
    }
}

struct DeviceRadixSort {
    /* Stable. With temporary NULL it only tells how many bytes it wants there. */
    template <typename Key, typename Value, typename Count>
    static cudaError_t SortPairs(void *temporary, size_t &bytes, const Key *keys_in, Key *keys_out,
                                 const Value *values_in, Value *values_out, Count n, int begin_bit,
                                 int end_bit, cudaStream_t stream)
    {
        size_t wanted = 1024 + (size_t)n * (sizeof(Key) + sizeof(Value));

        if (temporary == nullptr) {
            bytes = wanted;
            return cudaSuccess;
        }
        if (bytes < wanted)
            return cudaErrorInvalidValue;
        return SAC_LAUNCH((sort_pairs_kernel<Key, Value>), 1, 1, 0, stream, keys_in, keys_out, values_in,
                          values_out, (size_t)n, begin_bit, end_bit);
    }
};

} // namespace cub

#endif
