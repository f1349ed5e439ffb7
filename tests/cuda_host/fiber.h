/* fiber.h -- a stack and a place to go on: the threads of a block, run by one thread of the system.
 * Not built with ThreadSanitizer, nor is what runs on fibers: it would keep a clock for each of them. */
#ifndef CUDA_HOST_FIBER_H
#define CUDA_HOST_FIBER_H

#include <cstddef>
#include <memory>
#include <vector>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

namespace cuda_host
{

/* Where a flow of control was left: its registers lie on its own stack. */
struct context {
#if defined(__x86_64__) || defined(__aarch64__)
    void *stack_pointer = nullptr;
#else
    ucontext_t state;
#endif
    void *fake_stack = nullptr; /* AddressSanitizer's */
    const void *bottom = nullptr;
    size_t bytes = 0;
};

/* Mapped memory with an inaccessible page below it, so that an overflow crashes at once. */
class stack
{
  public:
    stack();
    ~stack();
    stack(const stack &) = delete;
    stack &operator=(const stack &) = delete;

    unsigned char *bottom() const
    {
        return bottom_;
    }
    static size_t bytes();

  private:
    unsigned char *bottom_;
};

/* Stacks for one thread of the system; the one used last is given first, because it is warm. */
class stack_pool
{
  public:
    std::unique_ptr<stack> take();
    void give(std::unique_ptr<stack> s);

  private:
    std::vector<std::unique_ptr<stack>> idle_;
};

/* Makes `c` start entry(argument) on `s` at the first switch to it. The entry never returns. */
void context_start(context &c, stack &s, void (*entry)(void *), void *argument);

/* Leaves `from` and goes on in `to`. */
void context_switch(context &from, context &to);

/* The same from a flow that never comes back. Not declared so: AddressSanitizer would clear the shadow of the
 * whole stack each time. Entries are built without it, so that they leave nothing to clear. */
#define CUDA_HOST_ENTRY __attribute__((no_sanitize_address))
void context_leave(context &from, context &to);

/* First thing in an entry: `back` is the context that started it. */
void context_entered(context &back);

} // namespace cuda_host

#endif
