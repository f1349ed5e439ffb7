/* A sorted array: an index has thousands of pieces, each asked for once and looked up rarely. */
#include "kernels/cuda/cuda_ranges.h"

#include <stdlib.h>
#include <string.h>

/* The first range whose end is behind the address. */
static size_t place_of(const sac_cuda_ranges *r, uintptr_t address)
{
    size_t low = 0, high = r->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (r->ranges[middle].address + r->ranges[middle].bytes <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool grow(sac_cuda_ranges *r)
{
    size_t space = r->space > 0 ? 2 * r->space : 64;
    sac_cuda_range *ranges = (sac_cuda_range *)realloc(r->ranges, space * sizeof *ranges);

    if (ranges == NULL)
        return false;
    r->ranges = ranges;
    r->space = space;
    return true;
}

bool sac_cuda_ranges_add(sac_cuda_ranges *r, const void *memory, size_t bytes)
{
    bool added = false;

    pthread_mutex_lock(&r->lock);
    if (r->count < r->space || grow(r)) {
        size_t at = place_of(r, (uintptr_t)memory);

        memmove(r->ranges + at + 1, r->ranges + at, (r->count - at) * sizeof *r->ranges);
        r->ranges[at].address = (uintptr_t)memory;
        r->ranges[at].bytes = bytes;
        r->count++;
        added = true;
    }
    pthread_mutex_unlock(&r->lock);
    return added;
}

size_t sac_cuda_ranges_remove(sac_cuda_ranges *r, const void *memory)
{
    size_t at, bytes = 0;

    pthread_mutex_lock(&r->lock);
    at = place_of(r, (uintptr_t)memory);
    if (at < r->count && r->ranges[at].address == (uintptr_t)memory) {
        bytes = r->ranges[at].bytes;
        r->count--;
        memmove(r->ranges + at, r->ranges + at + 1, (r->count - at) * sizeof *r->ranges);
    }
    pthread_mutex_unlock(&r->lock);
    return bytes;
}

bool sac_cuda_ranges_hold(sac_cuda_ranges *r, const void *memory, size_t bytes)
{
    uintptr_t address = (uintptr_t)memory;
    bool inside = false;
    size_t at;

    pthread_mutex_lock(&r->lock);
    at = place_of(r, address);
    if (at < r->count && r->ranges[at].address <= address)
        inside = bytes <= r->ranges[at].bytes - (address - r->ranges[at].address);
    pthread_mutex_unlock(&r->lock);
    return inside;
}

void sac_cuda_ranges_clear(sac_cuda_ranges *r)
{
    free(r->ranges);
    r->ranges = NULL;
    r->count = r->space = 0;
}
