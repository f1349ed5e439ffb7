/* runtime.h -- what the parts of the stand-in for the CUDA runtime share. */
#ifndef CUDA_HOST_RUNTIME_INTERNAL_H
#define CUDA_HOST_RUNTIME_INTERNAL_H

#include "cuda_host/api.h"
#include "report.h"

namespace cuda_host
{

constexpr int max_devices = 16;

/* Keeps what went wrong for cudaGetLastError of this thread, and returns it. */
cudaError_t report(cudaError_t error);

/* The sticky error of a lost device, or cudaSuccess: every call begins with it. */
cudaError_t sticky();

/* SACCADE_HOST_CUDA__FAIL: whether the allocation that is asked for now fails; whether the launch that is
 * made now loses the device. */
bool allocation_fails();
bool launch_fails();
/* And that a thread of the host has waited for work that was not done. */
void count_wait();

int device_count();
int current_device();
bool peer_enabled(int device, int peer);
size_t device_memory();

/* Whether a kernel may read or write these bytes: device or pinned memory, within one allocation. */
bool device_can_reach(const void *p, size_t bytes);

/* What may not happen while this thread, or with the global mode any thread, captures: the capture is lost.
 * Returns the error to give, or cudaSuccess. */
cudaError_t unsafe_call();

/* Runs the work in the stream's order (now, or later where SACCADE_HOST_CUDA__LATE is set), or records it. */
cudaError_t submit(cudaStream_t stream, std::function<void()> work);
int stream_device(cudaStream_t stream);
bool stream_captures(cudaStream_t stream);
bool streams_are_late();

/* A thread of the host waits for everything: on this device, or with -1 on all. */
void wait_for_device(int device);

/* While one of these lives, device memory can be reached (SACCADE_HOST_CUDA__GUARD): that of a device and of
 * the peers opened to it, or with -1 all. */
class device_access
{
  public:
    explicit device_access(int device);
    ~device_access();
    device_access(const device_access &) = delete;
    device_access &operator=(const device_access &) = delete;

  private:
    int device_;
};

} // namespace cuda_host

#define CUDA_HOST_TRY(call)                \
    do {                                   \
        const cudaError_t error_ = (call); \
        if (error_ != cudaSuccess)         \
            return report(error_);         \
    } while (0)

#endif
