/* report.h -- how the stand-in says that a test uses it wrongly. */
#ifndef CUDA_HOST_REPORT_H
#define CUDA_HOST_REPORT_H

#include <cstdarg>
#include <cstddef>
#include <cstdint>

namespace cuda_host
{

[[noreturn]] void fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Memory that must be there; ended with free(). */
void *aligned(size_t alignment, size_t bytes);

/* A number below n that shares no factor with it, chosen by `seed`; n >= 2. */
uint64_t coprime(uint64_t seed, uint64_t n);

/* A number from the environment; `otherwise` where the variable is not set. */
uint64_t environment_number(const char *name, uint64_t otherwise);

} // namespace cuda_host

#endif
