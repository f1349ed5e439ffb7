#include "machine_internal.h"

#include "report.h"

#include <cstdlib>

__thread uint3 threadIdx;
__thread uint3 blockIdx;
__thread dim3 blockDim;
__thread dim3 gridDim;

namespace cuda_host
{

/* Not a static inside the function: those are taken for shared memory. */
static thread_local machine own_machine;

/* The same while it runs, for the many calls of device code: a plain pointer has no constructor to check. */
static __thread machine *running_machine;

machine &this_machine()
{
    return own_machine;
}

void run_grid(const grid &g, const std::function<void()> &body)
{
    this_machine().run(g, body);
}

/* ---- order ------------------------------------------------------------------------------------------ */

void machine::read_order()
{
    const char *text = getenv("SACCADE_HOST_CUDA__ORDER");
    order_ = order::forward;
    if (text == nullptr || *text == 0 || std::strcmp(text, "forward") == 0)
        return;
    if (std::strcmp(text, "reverse") == 0) {
        order_ = order::reverse;
        return;
    }
    if (std::strncmp(text, "shuffle:", 8) != 0)
        fatal("SACCADE_HOST_CUDA__ORDER is forward, reverse or shuffle:SEED, not %s", text);
    order_ = order::shuffle;
    random_ = std::strtoull(text + 8, nullptr, 10) * 2 + 1;
}

void machine::mix(std::vector<unsigned> &numbers)
{
    for (size_t i = numbers.size(); i > 1; i--) {
        random_ = random_ * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
        std::swap(numbers[i - 1], numbers[(random_ >> 33) % i]);
    }
}

static void count_up(std::vector<unsigned> &numbers, unsigned count)
{
    numbers.resize(count);
    for (unsigned i = 0; i < count; i++)
        numbers[i] = i;
}

/* The i-th of count things, where they are too many to list. */
unsigned machine::turn(unsigned i, unsigned count) const
{
    return order_ == order::forward ? i : count - 1 - i;
}

/* ---- a grid and its blocks --------------------------------------------------------------------------- */

void machine::run(const grid &g, const std::function<void()> &body)
{
    const uint64_t blocks = static_cast<uint64_t>(g.blocks.x) * g.blocks.y * g.blocks.z;

    if (running())
        fatal("kernel %s is launched from inside a kernel", g.kernel);
    read_order();
    running_machine = this;
    grid_ = &g;
    body_ = &body;
    thread_count_ = g.threads.x * g.threads.y * g.threads.z;
    if (threads_.size() < thread_count_)
        threads_.resize(thread_count_);
    shared_ = g.shared_bytes > 0 ? static_cast<unsigned char *>(aligned(128, g.shared_bytes)) : nullptr;
    count_up(warps_, (thread_count_ + 31) / 32);
    count_up(lanes_, 32);
    warp_lanes_.resize(warps_.size());
    if (order_ == order::reverse) {
        std::reverse(warps_.begin(), warps_.end());
        std::reverse(lanes_.begin(), lanes_.end());
    }
    gridDim = g.blocks;
    blockDim = g.threads;
    /* A shuffled order of blocks: steps of a number that shares no factor with their count. */
    uint64_t step = 1, at = order_ == order::reverse ? blocks - 1 : 0;
    if (order_ == order::reverse)
        step = blocks - 1;
    if (order_ == order::shuffle && blocks > 2)
        step = coprime(random_ >> 20, blocks);
    for (uint64_t i = 0; i < blocks; i++) {
        blockIdx = {static_cast<unsigned>(at % g.blocks.x),
                    static_cast<unsigned>(at / g.blocks.x % g.blocks.y),
                    static_cast<unsigned>(at / g.blocks.x / g.blocks.y)};
        run_block();
        at = (at + step) % blocks;
    }
    free(shared_);
    shared_ = nullptr;
    running_machine = nullptr;
    body_ = nullptr;
    grid_ = nullptr;
}

void machine::spoil_shared()
{
    if (shared_ != nullptr)
        std::memset(shared_, 0xff, grid_->shared_bytes);
    spoil_static_shared();
}

void machine::run_block()
{
    spoil_shared();
    for (unsigned i = 0; i < thread_count_; i++) {
        device_thread &t = threads_[i];
        t.state = thread_state::fresh;
        t.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        t.groups = 0;
    }
    for (size_t w = 0; w < warp_lanes_.size(); w++)
        warp_lanes_[w] = {thread_count_ - w * 32 < 32 ? (1u << thread_count_ % 32) - 1 : ~0u, 0};
    live_ = thread_count_;
    at_block_ = 0;
    votes_ = 0;
    while (live_ > 0) {
        bool moved = false;
        if (order_ == order::shuffle)
            mix(warps_);
        for (unsigned w : warps_) {
            /* A warp goes as far as it can, which keeps its stacks warm; shuffled, warps take turns. */
            gave_way_ = false;
            while (run_lanes(w)) {
                moved = true;
                if (gave_way_ || order_ == order::shuffle)
                    break;
            }
        }
        if (!moved)
            deadlock();
    }
}

/* One turn for each lane of a warp that can go on. */
bool machine::run_lanes(unsigned warp)
{
    bool ran = false;

    if (order_ == order::shuffle)
        mix(lanes_);
    for (unsigned lane : lanes_) {
        const unsigned i = warp * 32 + lane;
        if (i < thread_count_ && threads_[i].state <= thread_state::ready) {
            resume(i);
            ran = true;
        }
    }
    return ran;
}

void machine::resume(unsigned thread)
{
    device_thread &t = threads_[thread];

    current_ = thread;
    threadIdx = t.index;
    if (t.state == thread_state::fresh) {
        t.memory = stacks_.take();
        context_start(t.flow, *t.memory, entry, this);
    }
    t.state = thread_state::ready;
    context_switch(scheduler_, t.flow);
    if (t.state == thread_state::exited)
        stacks_.give(std::move(t.memory));
}

CUDA_HOST_ENTRY void machine::entry(void *self)
{
    machine *m = static_cast<machine *>(self);
    context_entered(m->scheduler_);
    (*m->body_)();
    m->thread_ended();
    context_leave(m->threads_[m->current_].flow, m->scheduler_);
}

void machine::thread_ended()
{
    device_thread &t = threads_[current_];

    if (!t.copies.empty())
        kernel_fault(here(), "a thread ends with %zu asynchronous copies that nobody waited for",
                     t.copies.size());
    t.state = thread_state::exited;
    warp_lanes_[current_ / 32].alive &= ~(1u << current_ % 32);
    live_--;
}

/* Leaves the current thread in this state, until someone makes it ready. */
void machine::park(thread_state state)
{
    device_thread &t = threads_[current_];
    t.state = state;
    context_switch(t.flow, scheduler_);
}

void machine::give_way()
{
    gave_way_ = true;
    park(thread_state::ready);
}

/* ---- warps ------------------------------------------------------------------------------------------- */

void machine::check_mask(const char *what, uint32_t mask, site where)
{
    const unsigned base = current_ & ~31u;

    if ((mask >> (current_ & 31u) & 1u) == 0)
        kernel_fault(where, "%s with mask %08x, which does not name the calling lane", what, mask);
    const uint32_t missing = mask & ~warp_lanes_[current_ / 32].alive;
    if (missing == 0)
        return;
    const unsigned first = static_cast<unsigned>(__builtin_ctz(missing));
    kernel_fault(where, "%s with mask %08x names lane %u, which %s", what, mask, first,
                 base + first < thread_count_ ? "has exited" : "the block does not have");
}

bool machine::all_wait_alike(uint32_t mask) const
{
    const device_thread &mine = threads_[current_];
    const device_thread *warp = &threads_[current_ & ~31u];

    if (((warp_lanes_[current_ / 32].waiting | 1u << current_ % 32) & mask) != mask)
        return false;
    for (unsigned i = 0; i < 32; i++)
        if ((mask >> i & 1u) != 0 && &warp[i] != &mine &&
            (warp[i].mask != mask || warp[i].what != mine.what || !(warp[i].where == mine.where)))
            return false;
    return true;
}

void machine::warp_collective(const char *what, uint32_t mask, void *mine, warp_action action, site where)
{
    device_thread &t = threads_[current_];
    device_thread *warp = &threads_[current_ & ~31u];

    check_mask(what, mask, where);
    t.what = what;
    t.where = where;
    t.mask = mask;
    t.mine = mine;
    if (!all_wait_alike(mask)) {
        warp_lanes_[current_ / 32].waiting |= 1u << current_ % 32;
        park(thread_state::at_warp);
        return;
    }
    if (action != nullptr) {
        void *lanes[32];
        for (unsigned i = 0; i < 32; i++)
            lanes[i] = (mask >> i & 1u) != 0 ? warp[i].mine : nullptr;
        action(lanes, mask);
    }
    warp_lanes_[current_ / 32].waiting &= ~mask;
    for (unsigned i = 0; i < 32; i++)
        if ((mask >> i & 1u) != 0)
            warp[i].state = thread_state::ready;
}

/* ---- blocks ------------------------------------------------------------------------------------------ */

block_votes machine::block_barrier(const char *what, int predicate, site where)
{
    device_thread &t = threads_[current_];

    if (live_ < thread_count_)
        kernel_fault(where, "%s after %u threads of the block have exited", what, thread_count_ - live_);
    t.what = what;
    t.where = where;
    t.predicate = predicate;
    if (at_block_ == 0)
        first_at_block_ = current_;
    const device_thread &first = threads_[first_at_block_];
    if (first.what != what || !(first.where == where))
        kernel_fault(where, "%s, while thread %u waits at %s of %s:%d", what, first_at_block_, first.what,
                     first.where.file, first.where.line);
    votes_ += predicate != 0;
    at_block_++;
    if (at_block_ < thread_count_)
        park(thread_state::at_block);
    else
        block_release();
    return result_;
}

void machine::block_release()
{
    /* The next barrier cannot be complete before everyone has read this result. */
    result_ = {votes_, static_cast<int>(thread_count_)};
    votes_ = 0;
    at_block_ = 0;
    for (unsigned i = 0; i < thread_count_; i++)
        threads_[i].state = thread_state::ready;
}

/* ---- mistakes ----------------------------------------------------------------------------------------- */

void machine::deadlock()
{
    const grid &g = *grid_;
    unsigned shown = 0;

    fprintf(stderr,
            "cuda_host: kernel %s (%s:%d) cannot go on: block (%u,%u,%u), %u of %u threads have exited\n",
            g.kernel, g.where.file, g.where.line, blockIdx.x, blockIdx.y, blockIdx.z, thread_count_ - live_,
            thread_count_);
    for (unsigned i = 0; i < thread_count_ && shown < 40; i++) {
        const device_thread &t = threads_[i];
        const device_thread *before = i > 0 ? &threads_[i - 1] : nullptr;
        if (t.state < thread_state::at_warp || t.state == thread_state::exited)
            continue;
        if (before != nullptr && before->state == t.state && before->where == t.where && i % 32 != 0)
            continue; /* one line for neighbours that wait together */
        fprintf(stderr, "cuda_host:   thread (%u,%u,%u), warp %u lane %u and on, waits at %s", t.index.x,
                t.index.y, t.index.z, i / 32, i % 32, t.what);
        if (t.state == thread_state::at_warp)
            fprintf(stderr, " with mask %08x", t.mask);
        fprintf(stderr, ", %s:%d\n", t.where.file, t.where.line);
        shown++;
    }
    abort();
}

void kernel_fault(site where, const char *format, ...)
{
    machine &m = this_machine();
    va_list arguments;

    fprintf(stderr, "cuda_host: %s:%d: ", where.file, where.line);
    if (m.running())
        fprintf(stderr, "kernel %s, block (%u,%u,%u), thread (%u,%u,%u): ", m.launch().kernel, blockIdx.x,
                blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

/* ---- what device code calls ---------------------------------------------------------------------------- */

static machine &inside(site where)
{
    if (running_machine == nullptr)
        kernel_fault(where, "device code was called outside a kernel");
    return *running_machine;
}

unsigned lane()
{
    return inside(here()).current() & 31u;
}

void warp_collective(const char *what, uint32_t mask, void *mine, warp_action action, site where)
{
    inside(where).warp_collective(what, mask, mine, action, where);
}

block_votes block_barrier(const char *what, int predicate, site where)
{
    return inside(where).block_barrier(what, predicate, where);
}

void give_way()
{
    inside(here()).give_way();
}

} // namespace cuda_host
