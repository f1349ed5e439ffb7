#include "fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CUDA_HOST_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define CUDA_HOST_ASAN 1
#endif

#ifdef CUDA_HOST_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

/* ---- the switch -------------------------------------------------------------------------------------
 * A switch is a call, so only the registers that a callee must keep are saved: on the stack that is left.
 * What a new stack holds looks as if it had been left at the first instruction of cuda_host_fiber_first,
 * which calls the entry that lies in two of these registers. */

#if defined(__x86_64__)

extern "C" void cuda_host_fiber_switch(void **save, void *next);
extern "C" void cuda_host_fiber_first();
asm(R"(
        .text
        .globl  cuda_host_fiber_switch
        .hidden cuda_host_fiber_switch
        .type   cuda_host_fiber_switch, @function
cuda_host_fiber_switch:
        pushq   %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret
        .size   cuda_host_fiber_switch, . - cuda_host_fiber_switch

        .globl  cuda_host_fiber_first
        .hidden cuda_host_fiber_first
        .type   cuda_host_fiber_first, @function
cuda_host_fiber_first:
        movq    %r13, %rdi
        callq   *%r12
        ud2
        .size   cuda_host_fiber_first, . - cuda_host_fiber_first
        .section .note.GNU-stack,"",@progbits
        .text
)");

static void *first_frame(unsigned char *top, void (*entry)(void *), void *argument)
{
    void *frame[9] = {}; /* an odd number: the stack is aligned to 16 after ret has taken its address */
    frame[2] = argument; /* r13 */
    frame[3] = reinterpret_cast<void *>(entry);                 /* r12 */
    frame[6] = reinterpret_cast<void *>(cuda_host_fiber_first); /* where ret goes */
    return std::memcpy(top - sizeof frame, frame, sizeof frame);
}

#elif defined(__aarch64__)

extern "C" void cuda_host_fiber_switch(void **save, void *next);
extern "C" void cuda_host_fiber_first();
asm(R"(
        .text
        .globl  cuda_host_fiber_switch
        .hidden cuda_host_fiber_switch
        .type   cuda_host_fiber_switch, %function
cuda_host_fiber_switch:
        sub     sp, sp, #160
        stp     x19, x20, [sp]
        stp     x21, x22, [sp, #16]
        stp     x23, x24, [sp, #32]
        stp     x25, x26, [sp, #48]
        stp     x27, x28, [sp, #64]
        stp     x29, x30, [sp, #80]
        stp     d8, d9, [sp, #96]
        stp     d10, d11, [sp, #112]
        stp     d12, d13, [sp, #128]
        stp     d14, d15, [sp, #144]
        mov     x9, sp
        str     x9, [x0]
        mov     sp, x1
        ldp     x19, x20, [sp]
        ldp     x21, x22, [sp, #16]
        ldp     x23, x24, [sp, #32]
        ldp     x25, x26, [sp, #48]
        ldp     x27, x28, [sp, #64]
        ldp     x29, x30, [sp, #80]
        ldp     d8, d9, [sp, #96]
        ldp     d10, d11, [sp, #112]
        ldp     d12, d13, [sp, #128]
        ldp     d14, d15, [sp, #144]
        add     sp, sp, #160
        ret
        .size   cuda_host_fiber_switch, . - cuda_host_fiber_switch

        .globl  cuda_host_fiber_first
        .hidden cuda_host_fiber_first
        .type   cuda_host_fiber_first, %function
cuda_host_fiber_first:
        mov     x0, x20
        blr     x19
        brk     #1
        .size   cuda_host_fiber_first, . - cuda_host_fiber_first
        .section .note.GNU-stack,"",%progbits
        .text
)");

static void *first_frame(unsigned char *top, void (*entry)(void *), void *argument)
{
    void *frame[20] = {};
    frame[0] = reinterpret_cast<void *>(entry);                  /* x19 */
    frame[1] = argument;                                         /* x20 */
    frame[11] = reinterpret_cast<void *>(cuda_host_fiber_first); /* x30, where ret goes */
    return std::memcpy(top - sizeof frame, frame, sizeof frame);
}

#endif

namespace cuda_host
{

static void registers_switch(context &from, context &to)
{
#if defined(__x86_64__) || defined(__aarch64__)
    cuda_host_fiber_switch(&from.stack_pointer, to.stack_pointer);
#else
    swapcontext(&from.state, &to.state);
#endif
}

#if !defined(__x86_64__) && !defined(__aarch64__)
/* makecontext passes ints only, so a pointer travels in two. */
static void first_by_halves(unsigned entry_high, unsigned entry_low, unsigned argument_high,
                            unsigned argument_low)
{
    const uint64_t entry = static_cast<uint64_t>(entry_high) << 32 | entry_low;
    const uint64_t argument = static_cast<uint64_t>(argument_high) << 32 | argument_low;
    reinterpret_cast<void (*)(void *)>(static_cast<uintptr_t>(entry))(
        reinterpret_cast<void *>(static_cast<uintptr_t>(argument)));
    abort();
}
#endif

void context_start(context &c, stack &s, void (*entry)(void *), void *argument)
{
    c.bottom = s.bottom();
    c.bytes = stack::bytes();
    c.fake_stack = nullptr;
#if defined(__x86_64__) || defined(__aarch64__)
    c.stack_pointer = first_frame(s.bottom() + stack::bytes(), entry, argument);
#else
    const uint64_t e = reinterpret_cast<uintptr_t>(entry), a = reinterpret_cast<uintptr_t>(argument);
    getcontext(&c.state);
    c.state.uc_stack.ss_sp = s.bottom();
    c.state.uc_stack.ss_size = stack::bytes();
    c.state.uc_link = nullptr;
    makecontext(&c.state, reinterpret_cast<void (*)()>(first_by_halves), 4, static_cast<unsigned>(e >> 32),
                static_cast<unsigned>(e), static_cast<unsigned>(a >> 32), static_cast<unsigned>(a));
#endif
}

void context_switch(context &from, context &to)
{
#ifdef CUDA_HOST_ASAN
    __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.bytes);
#endif
    registers_switch(from, to);
#ifdef CUDA_HOST_ASAN
    __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

CUDA_HOST_ENTRY void context_leave(context &from, context &to)
{
#ifdef CUDA_HOST_ASAN
    __sanitizer_start_switch_fiber(nullptr, to.bottom, to.bytes);
#endif
    registers_switch(from, to);
}

void context_entered(context &back)
{
#ifdef CUDA_HOST_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &back.bottom, &back.bytes);
#else
    static_cast<void>(back);
#endif
}

/* ---- stacks ---------------------------------------------------------------------------------------- */

#ifdef CUDA_HOST_ASAN
static const size_t stack_bytes = 256u << 10; /* frames are larger with a sanitizer */
#else
static const size_t stack_bytes = 128u << 10;
#endif

size_t stack::bytes()
{
    return stack_bytes;
}

stack::stack()
{
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void *p = mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (p == MAP_FAILED || mprotect(p, page, PROT_NONE) != 0) {
        fprintf(stderr, "cuda_host: no memory for the stack of a thread\n");
        abort();
    }
    bottom_ = static_cast<unsigned char *>(p) + page;
}

stack::~stack()
{
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    munmap(bottom_ - page, page + stack_bytes);
}

std::unique_ptr<stack> stack_pool::take()
{
    if (idle_.empty())
        return std::make_unique<stack>();
    std::unique_ptr<stack> s = std::move(idle_.back());
    idle_.pop_back();
    return s;
}

void stack_pool::give(std::unique_ptr<stack> s)
{
    idle_.push_back(std::move(s));
}

} // namespace cuda_host
