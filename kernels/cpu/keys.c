#include "kernels/cpu/keys.h"

#include "kernels/select.h"

enum { SMALL = 24 }; /* up to here insertion sort is the fastest */

static void insertion_sort(uint64_t *keys, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        uint64_t key = keys[i];
        size_t at = i;

        for (; at > 0 && key < keys[at - 1]; at--)
            keys[at] = keys[at - 1];
        keys[at] = key;
    }
}

static uint64_t median(uint64_t a, uint64_t b, uint64_t c)
{
    if (a > b) {
        uint64_t t = a;

        a = b;
        b = t;
    }
    return c < a ? a : c > b ? b : c;
}

/* Hoare's partition: keys before the returned place are <= those from it on; both sides have at least one. n
 * >= 2. */
static size_t partition(uint64_t *keys, size_t n)
{
    uint64_t pivot = median(keys[n / 4], keys[n / 2], keys[n / 4 * 3]);
    size_t low = 0, high = n - 1;

    for (;;) {
        uint64_t t;

        while (keys[low] < pivot)
            low++;
        while (keys[high] > pivot)
            high--;
        if (low >= high)
            return low > 0 ? low : 1;
        t = keys[low];
        keys[low++] = keys[high];
        keys[high--] = t;
    }
}

uint64_t sac_keys_select(uint64_t *keys, size_t n, size_t k)
{
    size_t low = 0, high = n;
    uint64_t largest = 0;

    while (high - low > SMALL) {
        size_t middle = low + partition(keys + low, high - low);

        if (k <= middle)
            high = middle;
        else
            low = middle;
    }
    insertion_sort(keys + low, high - low);
    for (size_t i = low; i < k; i++)
        largest = keys[i];
    return largest;
}

void sac_keys_sort(uint64_t *keys, size_t n)
{
    while (n > SMALL) { /* the smaller side by recursion, so the stack stays below 64 frames */
        size_t middle = partition(keys, n);

        if (middle < n - middle) {
            sac_keys_sort(keys, middle);
            keys += middle;
            n -= middle;
        } else {
            sac_keys_sort(keys + middle, n - middle);
            n = middle;
        }
    }
    insertion_sort(keys, n);
}

void sac_keys_write(uint64_t *keys, size_t n, size_t k, float *distances, uint32_t *indices)
{
    size_t count = n < k ? n : k;

    if (n > k)
        sac_keys_select(keys, n, k);
    sac_keys_sort(keys, count);
    for (size_t i = 0; i < count; i++) {
        distances[i] = sac_key_distance(keys[i]);
        indices[i] = sac_key_index(keys[i]);
    }
    sac_list_pad(distances, indices, k, count);
}
