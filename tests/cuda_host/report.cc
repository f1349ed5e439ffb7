#include "report.h"

#include <cstdio>
#include <cstdlib>
#include <numeric>

namespace cuda_host
{

void fatal(const char *format, ...)
{
    va_list arguments;

    fputs("cuda_host: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

void *aligned(size_t alignment, size_t bytes)
{
    void *p = nullptr;
    if (posix_memalign(&p, alignment, bytes > 0 ? bytes : 1) != 0)
        fatal("no memory for %zu bytes", bytes);
    return p;
}

uint64_t coprime(uint64_t seed, uint64_t n)
{
    uint64_t step = seed % n;
    while (std::gcd(step, n) != 1)
        step = (step + 1) % n;
    return step;
}

uint64_t environment_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    char *end = nullptr;

    if (text == nullptr || *text == 0)
        return otherwise;
    const uint64_t value = strtoull(text, &end, 10);
    if (*end != 0)
        fatal("%s is a number, not %s", name, text);
    return value;
}

} // namespace cuda_host
