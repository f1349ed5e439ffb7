/* stream.h -- streams, events and captures, as the runtime sees them. */
#ifndef CUDA_HOST_STREAM_H
#define CUDA_HOST_STREAM_H

#include "runtime.h"

#include <deque>
#include <memory>
#include <vector>

namespace cuda_host
{

typedef std::function<void()> job;

/* What a stream has been given and has done; events keep it, because they may outlive the stream. */
struct job_queue {
    std::deque<job> waiting; /* only with SACCADE_HOST_CUDA__LATE */
    uint64_t given = 0, done = 0;
};

/* The nodes of a capture that something comes after. */
typedef std::vector<bool> node_set;

struct capture {
    cudaStream_t origin;
    cudaStreamCaptureMode mode;
    bool invalid = false;
    std::vector<job> nodes;
    std::vector<cudaStream_t> streams; /* the origin, and those that joined by waiting for its events */
};

/* Runs the queue up to and with this job; false where that was done before. */
bool run_until(job_queue &queue, uint64_t ticket);

} // namespace cuda_host

struct CUstream_st {
    int device = 0;
    unsigned flags = 0;
    std::shared_ptr<cuda_host::job_queue> queue = std::make_shared<cuda_host::job_queue>();
    std::shared_ptr<cuda_host::capture> capture;
    cuda_host::node_set after; /* under capture: what its next job comes after */
};

struct CUevent_st {
    int device = 0;
    unsigned flags = 0;
    std::shared_ptr<cuda_host::job_queue> queue; /* of the stream it was last recorded in */
    uint64_t ticket = 0;
    std::shared_ptr<double> milliseconds = std::make_shared<double>(0);
    std::shared_ptr<cuda_host::capture> capture;
    cuda_host::node_set after;
};

struct CUgraph_st {
    int device;
    std::vector<cuda_host::job> nodes;
};

struct CUgraphExec_st {
    int device;
    std::vector<cuda_host::job> nodes;
};

namespace cuda_host
{

/* The stream itself, for the default streams too. */
CUstream_st &stream_of(cudaStream_t stream);

/* What stream joins a capture by waiting for an event of it; or gives the error for that. */
cudaError_t join_capture(CUstream_st &stream, const CUevent_st &event);

/* How this stream may be used now: not the default stream while this thread captures, nor a lost capture. */
cudaError_t check_stream(cudaStream_t stream);

} // namespace cuda_host

#endif
