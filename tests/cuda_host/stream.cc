/* stream.cc -- streams and events. Work runs when it is given, or, with SACCADE_HOST_CUDA__LATE=1, only when
 * someone waits for it: then a missing wait shows as poison. */
#include "stream.h"

#include <chrono>
#include <mutex>

namespace cuda_host
{

/* Held while late jobs run: one at a time, and a job may wait for another stream's. */
static std::recursive_mutex &late_lock()
{
    static std::recursive_mutex lock;
    return lock;
}

struct stream_list {
    std::mutex lock;
    std::vector<CUstream_st *> all;
    CUstream_st legacy[max_devices];
};

static stream_list &streams()
{
    static stream_list list;
    return list;
}

struct thread_streams {
    CUstream_st own[max_devices];
};

static thread_local thread_streams streams_of_thread;

CUstream_st &stream_of(cudaStream_t stream)
{
    const int device = current_device();
    CUstream_st *s = stream;

    if (stream == nullptr || stream == cudaStreamLegacy)
        s = &streams().legacy[device];
    else if (stream == cudaStreamPerThread)
        s = &streams_of_thread.own[device];
    else
        return *stream;
    s->device = device;
    return *s;
}

int stream_device(cudaStream_t stream)
{
    return stream_of(stream).device;
}

bool stream_captures(cudaStream_t stream)
{
    return stream_of(stream).capture != nullptr;
}

bool streams_are_late()
{
    return environment_number("SACCADE_HOST_CUDA__LATE", 0) != 0;
}

bool run_until(job_queue &queue, uint64_t ticket)
{
    const std::lock_guard<std::recursive_mutex> hold(late_lock());
    const bool some = queue.done < ticket && !queue.waiting.empty();

    while (queue.done < ticket && !queue.waiting.empty()) {
        const job next = std::move(queue.waiting.front());
        queue.waiting.pop_front();
        next();
        queue.done++;
    }
    return some;
}

/* A thread of the host that asks whether work is done, and was told that it is not, is waiting. */
static __thread bool asks;

/* The end of a wait, if it was one. */
static void end_wait(bool waited)
{
    if (waited || asks)
        count_wait();
    asks = false;
}

/* One step, for who asks: whoever does so often enough gets there. */
static cudaError_t not_ready(job_queue &queue)
{
    run_until(queue, queue.done + 1);
    asks = true;
    return report(cudaErrorNotReady); /* no error, but kept like one */
}

static std::vector<std::shared_ptr<job_queue>> queues_of(int device)
{
    stream_list &list = streams();
    const std::lock_guard<std::mutex> hold(list.lock);
    std::vector<std::shared_ptr<job_queue>> queues;

    for (CUstream_st *s : list.all)
        if (device < 0 || s->device == device)
            queues.push_back(s->queue);
    for (int d = 0; d < max_devices; d++)
        if (device < 0 || d == device)
            queues.push_back(list.legacy[d].queue);
    return queues;
}

static bool run_late(int device)
{
    bool some = run_until(*stream_of(cudaStreamPerThread).queue, UINT64_MAX);

    for (const std::shared_ptr<job_queue> &queue : queues_of(device))
        some = run_until(*queue, UINT64_MAX) || some;
    return some;
}

void wait_for_device(int device)
{
    end_wait(run_late(device));
}

static void add_node(CUstream_st &s, job work)
{
    s.capture->nodes.push_back(std::move(work));
    s.after.resize(s.capture->nodes.size(), false);
    s.after.back() = true;
}

cudaError_t submit(cudaStream_t stream, job work)
{
    CUstream_st &s = stream_of(stream);

    CUDA_HOST_TRY(check_stream(stream));
    if (s.capture != nullptr) {
        add_node(s, std::move(work));
        return cudaSuccess;
    }
    if (!streams_are_late()) {
        work();
        return cudaSuccess;
    }
    const std::lock_guard<std::recursive_mutex> hold(late_lock());
    if (&s == &streams().legacy[s.device])
        run_late(s.device); /* the default stream comes after all that was given before */
    s.queue->waiting.push_back(std::move(work));
    s.queue->given++;
    return cudaSuccess;
}

static double now_milliseconds()
{
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

} // namespace cuda_host

using namespace cuda_host;

/* ---- streams ------------------------------------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    *stream = nullptr;
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(unsafe_call());
    if ((flags & ~cudaStreamNonBlocking) != 0)
        return report(cudaErrorInvalidValue);
    *stream = new CUstream_st;
    (*stream)->device = current_device();
    (*stream)->flags = flags;
    const std::lock_guard<std::mutex> hold(streams().lock);
    streams().all.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int)
{
    return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return report(sticky());
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    const cudaError_t lost = sticky();
    if (stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread)
        return report(cudaErrorInvalidResourceHandle);
    if (lost == cudaSuccess)
        run_until(*stream->queue, UINT64_MAX);
    if (stream->capture != nullptr)
        stream->capture->invalid = true;
    {
        const std::lock_guard<std::mutex> hold(streams().lock);
        std::vector<CUstream_st *> &all = streams().all;
        const auto at = std::find(all.begin(), all.end(), stream);
        if (at == all.end())
            fatal("cudaStreamDestroy of what is no stream, or is one no longer");
        all.erase(at);
    }
    delete stream;
    return report(lost);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    CUDA_HOST_TRY(sticky());
    CUstream_st &s = stream_of(stream);
    CUDA_HOST_TRY(unsafe_call());
    if (s.capture != nullptr) {
        s.capture->invalid = true;
        return report(cudaErrorStreamCaptureUnsupported);
    }
    end_wait(run_until(*s.queue, UINT64_MAX));
    return report(sticky());
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    CUDA_HOST_TRY(sticky());
    CUstream_st &s = stream_of(stream);
    CUDA_HOST_TRY(unsafe_call());
    if (s.capture != nullptr) {
        s.capture->invalid = true;
        return report(cudaErrorStreamCaptureUnsupported);
    }
    const std::lock_guard<std::recursive_mutex> hold(late_lock());
    if (!s.queue->waiting.empty())
        return not_ready(*s.queue);
    end_wait(false);
    return report(sticky());
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data)
{
    CUDA_HOST_TRY(sticky());
    return report(submit(stream, [function, data] { function(data); }));
}

/* ---- events -------------------------------------------------------------------------------------------- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    *event = nullptr;
    CUDA_HOST_TRY(sticky());
    if ((flags & ~(cudaEventBlockingSync | cudaEventDisableTiming)) != 0)
        return report(cudaErrorInvalidValue);
    *event = new CUevent_st;
    (*event)->device = current_device();
    (*event)->flags = flags;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    if (event == nullptr)
        return report(cudaErrorInvalidResourceHandle);
    delete event;
    return report(sticky());
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(check_stream(stream));
    CUstream_st &s = stream_of(stream);
    if (event->device != s.device)
        return report(cudaErrorInvalidResourceHandle);
    event->capture = s.capture;
    if (s.capture != nullptr) {
        event->after = s.after;
        return cudaSuccess;
    }
    const std::shared_ptr<double> at = event->milliseconds = std::make_shared<double>(0);
    CUDA_HOST_TRY(submit(stream, [at] { *at = now_milliseconds(); }));
    event->queue = s.queue;
    const std::lock_guard<std::recursive_mutex> hold(late_lock());
    event->ticket = s.queue->given;
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    CUDA_HOST_TRY(sticky());
    if (event->capture != nullptr) {
        event->capture->invalid = true;
        return report(cudaErrorCapturedEvent);
    }
    if (event->queue == nullptr)
        return cudaSuccess;
    const std::lock_guard<std::recursive_mutex> hold(late_lock());
    if (event->queue->done < event->ticket)
        return not_ready(*event->queue);
    end_wait(false);
    return report(sticky());
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(unsafe_call());
    if (event->capture != nullptr) {
        event->capture->invalid = true;
        return report(cudaErrorCapturedEvent);
    }
    if (event->queue != nullptr)
        end_wait(run_until(*event->queue, event->ticket));
    return report(sticky());
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    CUDA_HOST_TRY(sticky());
    CUstream_st &s = stream_of(stream);
    if (flags != 0)
        return report(cudaErrorInvalidValue);
    if (event->capture != nullptr)
        return report(join_capture(s, *event));
    if (s.capture != nullptr) {
        s.capture->invalid = true; /* a graph cannot depend on what is outside */
        return report(cudaErrorStreamCaptureIsolation);
    }
    if (event->queue == nullptr)
        return cudaSuccess;
    const std::shared_ptr<job_queue> queue = event->queue;
    const uint64_t ticket = event->ticket;
    return report(submit(stream, [queue, ticket] { run_until(*queue, ticket); }));
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    CUDA_HOST_TRY(sticky());
    if (start->queue == nullptr || end->queue == nullptr ||
        ((start->flags | end->flags) & cudaEventDisableTiming) != 0)
        return report(cudaErrorInvalidResourceHandle);
    const std::lock_guard<std::recursive_mutex> hold(late_lock());
    if (start->queue->done < start->ticket || end->queue->done < end->ticket)
        return report(cudaErrorNotReady);
    *milliseconds = static_cast<float>(*end->milliseconds - *start->milliseconds);
    return cudaSuccess;
}
