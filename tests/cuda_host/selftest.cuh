/* selftest.cuh -- what the self-tests of the host run share. */
#ifndef CUDA_HOST_SELFTEST_CUH
#define CUDA_HOST_SELFTEST_CUH

#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cuda_runtime.h>
#include <vector>

extern "C" {
#include <cmocka.h>
}

#include "kernels/cuda/launch.cuh"

#include <csignal>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#define assert_cuda(call) assert_int_equal(call, cudaSuccess)

/* Device memory of n values, filled from the host. */
template <class T> static inline T *on_device(const std::vector<T> &values)
{
    T *p = nullptr;
    assert_cuda(cudaMalloc(&p, values.size() * sizeof(T)));
    assert_cuda(cudaMemcpy(p, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    return p;
}

template <class T> static inline std::vector<T> from_device(const T *p, size_t n)
{
    std::vector<T> values(n);
    assert_cuda(cudaMemcpy(values.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
}

/* What a process says on its standard error before it ends by a signal (as a kernel's mistake must make it
 * end); empty where it ends otherwise. */
template <class F> static inline std::string last_words(F act)
{
    int ends[2];
    std::string said;
    char buffer[4096];
    ssize_t n;
    int status = 0;

    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        act();
        _exit(0);
    }
    close(ends[1]);
    while ((n = read(ends[0], buffer, sizeof buffer)) > 0)
        said.append(buffer, static_cast<size_t>(n));
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return "";
    return said.empty() ? "silent" : said;
}

static inline bool says(const std::string &text, const char *part)
{
    if (text.find(part) != std::string::npos)
        return true;
    print_message("not said: \"%s\" in\n%s\n", part, text.c_str());
    return false;
}

#endif
