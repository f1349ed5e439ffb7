/* machine.h -- what device code asks of the machine that runs it: who am I, and wait for the others. */
#ifndef CUDA_HOST_MACHINE_H
#define CUDA_HOST_MACHINE_H

#include "vectors.h"

/* Set for each thread of a block before it runs. __thread and not thread_local: no constructor to check. */
extern __thread uint3 threadIdx;
extern __thread uint3 blockIdx;
extern __thread dim3 blockDim;
extern __thread dim3 gridDim;
constexpr int warpSize = 32;

namespace cuda_host
{

/* A place in a kernel, for messages. As the last, defaulted argument it is the caller's line. */
struct site {
    const char *file;
    int line;

    bool operator==(const site &other) const
    {
        return line == other.line && (file == other.file || std::strcmp(file, other.file) == 0);
    }
};

constexpr site here(const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    return {file, line};
}

/* What the last lane to arrive does for all: lanes[i] is what lane i brought (NULL outside the mask). */
typedef void (*warp_action)(void *const lanes[32], uint32_t mask);

/* Waits until every lane of the mask is here with the same operation, mask and place. `mine` stays valid
 * meanwhile, because it lies on this thread's own stack. */
void warp_collective(const char *what, uint32_t mask, void *mine, warp_action action, site where);

struct block_votes {
    int count; /* threads of the block with a predicate other than 0 */
    int threads;
};

/* Waits until every thread of the block is at the same barrier. */
block_votes block_barrier(const char *what, int predicate, site where);

/* Lets the other threads of the block run. */
void give_way();

/* The block's dynamic shared memory; fails where the kernel was launched without any. */
void *shared_dynamic(size_t alignment, site where);

/* Whether these bytes are shared memory of the running block. */
bool is_shared(const void *p, size_t bytes);

unsigned lane();

/* Copies that land when they are waited for, and not before. */
void copy_later(void *shared, const void *global, unsigned bytes, unsigned source_bytes, site where);
void copies_commit();
void copies_wait(unsigned groups_left);

/* Ends the process with kernel, block, thread and line: a mistake in a kernel is a failed test. */
[[noreturn]] void kernel_fault(site where, const char *format, ...) __attribute__((format(printf, 2, 3)));

} // namespace cuda_host

#endif
