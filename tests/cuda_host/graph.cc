/* graph.cc -- stream capture and graphs. A node is a closure with its own copy of the arguments; nodes run in
 * the order in which they were captured, which is one of the orders that their dependencies allow. */
#include "stream.h"

#include <atomic>

namespace cuda_host
{

static std::atomic<int> global_captures; /* captures in mode Global, of any thread */
static __thread int thread_captures;     /* captures of this thread that are not Relaxed */
static thread_local std::vector<std::shared_ptr<capture>> own_captures;
static __thread cudaStreamCaptureMode thread_mode; /* Relaxed: unsafe calls are this thread's own risk */

cudaError_t unsafe_call()
{
    if (thread_mode == cudaStreamCaptureModeRelaxed)
        return cudaSuccess;
    const bool others = thread_mode == cudaStreamCaptureModeGlobal && global_captures > 0;
    if (thread_captures == 0 && !others)
        return cudaSuccess;
    for (const std::shared_ptr<capture> &c : own_captures)
        if (c->mode != cudaStreamCaptureModeRelaxed)
            c->invalid = true;
    return cudaErrorStreamCaptureUnsupported;
}

cudaError_t check_stream(cudaStream_t stream)
{
    const CUstream_st &s = stream_of(stream);
    const bool legacy = stream == nullptr || stream == cudaStreamLegacy;

    if (s.capture != nullptr && s.capture->invalid)
        return cudaErrorStreamCaptureInvalidated;
    if (!legacy || own_captures.empty())
        return cudaSuccess;
    for (const std::shared_ptr<capture> &c : own_captures) {
        if ((c->origin->flags & cudaStreamNonBlocking) != 0)
            continue; /* it does not wait for the default stream */
        c->invalid = true;
        return cudaErrorStreamCaptureImplicit;
    }
    return cudaSuccess;
}

static void join_sets(node_set &to, const node_set &from)
{
    to.resize(std::max(to.size(), from.size()), false);
    for (size_t i = 0; i < from.size(); i++)
        if (from[i])
            to[i] = true;
}

cudaError_t join_capture(CUstream_st &stream, const CUevent_st &event)
{
    const std::shared_ptr<capture> &c = event.capture;

    if (stream.capture != nullptr && stream.capture != c) {
        c->invalid = stream.capture->invalid = true;
        return cudaErrorStreamCaptureMerge;
    }
    if (std::find(c->streams.begin(), c->streams.end(), c->origin) == c->streams.end())
        return cudaErrorCapturedEvent; /* that capture has ended */
    if (stream.capture == nullptr) {
        stream.capture = c;
        stream.after.clear();
        c->streams.push_back(&stream);
    }
    join_sets(stream.after, event.after);
    return cudaSuccess;
}

static void forget_capture(const std::shared_ptr<capture> &c)
{
    for (cudaStream_t s : c->streams) {
        s->capture = nullptr;
        s->after.clear();
    }
    c->streams.clear();
    own_captures.erase(std::remove(own_captures.begin(), own_captures.end(), c), own_captures.end());
    if (c->mode != cudaStreamCaptureModeRelaxed)
        thread_captures--;
    if (c->mode == cudaStreamCaptureModeGlobal)
        global_captures--;
}

static bool everything_joined(const capture &c)
{
    const node_set &after = c.origin->after;
    return after.size() == c.nodes.size() && std::find(after.begin(), after.end(), false) == after.end();
}

} // namespace cuda_host

using namespace cuda_host;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    CUDA_HOST_TRY(sticky());
    CUstream_st &s = stream_of(stream);
    if (stream == nullptr || stream == cudaStreamLegacy)
        return report(cudaErrorStreamCaptureUnsupported);
    if (s.capture != nullptr)
        return report(cudaErrorIllegalState);
    s.capture = std::make_shared<capture>();
    s.capture->origin = &s;
    s.capture->mode = mode;
    s.capture->streams.push_back(&s);
    s.after.clear();
    own_captures.push_back(s.capture);
    thread_captures += mode != cudaStreamCaptureModeRelaxed;
    global_captures += mode == cudaStreamCaptureModeGlobal;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = nullptr;
    CUDA_HOST_TRY(sticky());
    CUstream_st &s = stream_of(stream);
    const std::shared_ptr<capture> c = s.capture;
    if (c == nullptr)
        return report(cudaErrorIllegalState);
    if (c->origin != &s)
        return report(cudaErrorStreamCaptureUnmatched);
    if (c->mode != cudaStreamCaptureModeRelaxed &&
        std::find(own_captures.begin(), own_captures.end(), c) == own_captures.end())
        return report(cudaErrorStreamCaptureWrongThread);
    const bool joined = everything_joined(*c);
    forget_capture(c);
    if (c->invalid)
        return report(cudaErrorStreamCaptureInvalidated);
    if (!joined)
        return report(cudaErrorStreamCaptureUnjoined);
    *graph = new CUgraph_st{s.device, c->nodes};
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    CUDA_HOST_TRY(sticky());
    const CUstream_st &s = stream_of(stream);
    *status = cudaStreamCaptureStatusNone;
    if (s.capture != nullptr)
        *status = s.capture->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode)
{
    std::swap(thread_mode, *mode);
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    *exec = nullptr;
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(unsafe_call());
    *exec = new CUgraphExec_st{graph->device, graph->nodes};
    return cudaSuccess;
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo *info)
{
    CUDA_HOST_TRY(sticky());
    const bool alike = exec->nodes.size() == graph->nodes.size();
    info->result = alike ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
    if (!alike)
        return report(cudaErrorGraphExecUpdateFailure);
    exec->nodes = graph->nodes;
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    return report(sticky());
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    CUDA_HOST_TRY(sticky());
    if (launch_fails())
        return report(sticky());
    const std::vector<job> nodes = exec->nodes; /* of the launch: the graph may be updated or destroyed */
    return report(submit(stream, [nodes] {
        for (const job &node : nodes)
            node();
    }));
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return report(sticky());
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return report(sticky());
}
