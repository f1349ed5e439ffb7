/* machine_internal.h -- one multiprocessor: the threads of one block, and what they wait for. */
#ifndef CUDA_HOST_MACHINE_INTERNAL_H
#define CUDA_HOST_MACHINE_INTERNAL_H

#include "cuda_host/machine.h"
#include "fiber.h"

#include <string>
#include <vector>

namespace cuda_host
{

/* A launch, without its arguments: those are inside the body. */
struct grid {
    const char *kernel;
    site where;
    dim3 blocks, threads;
    size_t shared_bytes;
};

/* Runs body() once for every thread of the grid, on the calling thread of the system. */
void run_grid(const grid &g, const std::function<void()> &body);

enum class thread_state { fresh, ready, at_warp, at_block, exited };

struct pending_copy {
    unsigned char *to;
    unsigned char bytes[16];
    unsigned count;
    unsigned group;
};

struct device_thread {
    thread_state state;
    uint3 index;
    context flow;
    std::unique_ptr<stack> memory;
    /* what it waits for */
    const char *what;
    site where;
    uint32_t mask;
    void *mine;
    int predicate;
    /* what it has in flight */
    std::vector<pending_copy> copies;
    unsigned groups;
};

/* The lanes of a warp, a bit each. */
struct warp_lanes {
    uint32_t alive, waiting;
};

/* In which order threads, warps and blocks get their turn: no correct kernel can tell. */
enum class order { forward, reverse, shuffle };

class machine
{
  public:
    void run(const grid &g, const std::function<void()> &body);

    void warp_collective(const char *what, uint32_t mask, void *mine, warp_action action, site where);
    block_votes block_barrier(const char *what, int predicate, site where);
    void give_way();
    void *shared_dynamic(size_t alignment, site where);
    bool is_shared(const void *p, size_t bytes) const;
    void copy_later(void *shared, const void *global, unsigned bytes, unsigned source_bytes, site where);
    void copies_commit();
    void copies_wait(unsigned groups_left);

    unsigned current() const
    {
        return current_;
    }
    bool running() const
    {
        return body_ != nullptr;
    }
    const grid &launch() const
    {
        return *grid_;
    }

  private:
    static void entry(void *self);
    void run_block();
    bool run_lanes(unsigned warp);
    void resume(unsigned thread);
    void park(thread_state state);
    void check_mask(const char *what, uint32_t mask, site where);
    bool all_wait_alike(uint32_t mask) const;
    void block_release();
    void thread_ended();
    void spoil_shared();
    void read_order();
    void mix(std::vector<unsigned> &numbers);
    unsigned turn(unsigned i, unsigned count) const;
    [[noreturn]] void deadlock();

    const grid *grid_ = nullptr;
    const std::function<void()> *body_ = nullptr;
    std::vector<device_thread> threads_;
    unsigned thread_count_ = 0, current_ = 0, live_ = 0;
    std::vector<warp_lanes> warp_lanes_;
    unsigned at_block_ = 0, first_at_block_ = 0;
    int votes_ = 0;
    block_votes result_ = {0, 0};
    bool gave_way_ = false;
    context scheduler_;
    stack_pool stacks_;
    unsigned char *shared_ = nullptr;
    order order_ = order::forward;
    uint64_t random_ = 0;
    std::vector<unsigned> warps_, lanes_;
};

/* The machine of the calling thread of the system. */
machine &this_machine();

/* The static __shared__ variables of this module, for the calling thread of the system. */
void spoil_static_shared();
bool is_static_shared(const void *p, size_t bytes);

} // namespace cuda_host

#endif
