/* Order on a GPU: streams with their arenas, copies, marks, recordings. */
#include "kernels/cuda/cuda.h"

#include <stdlib.h>
#include <time.h>

/* A wait looks again and again for this long before it sleeps: a search of one query takes less, and waking
 * up costs as much as the search. */
enum { SPIN_NS = 60000 };

typedef struct cuda_event {
    sac_event base;
    cudaEvent_t event;
} cuda_event;

typedef struct cuda_recording {
    sac_recording base;
    cudaGraphExec_t graph;
} cuda_recording;

static sac_cuda_stream *cuda_stream(sac_stream *stream)
{
    return (sac_cuda_stream *)stream;
}

/* The outcome of something put on the stream; a recording remembers the first failure. */
static sac_status outcome(sac_stream *stream, cudaError_t error)
{
    sac_cuda_stream *s = cuda_stream(stream);
    sac_status st = sac_cuda_status(stream->device, error);

    if (s->recording && s->recorded == SAC_OK)
        s->recorded = st;
    return st;
}

static void free_stream(sac_cuda_stream *s)
{
    if (s->done != NULL)
        (void)cudaEventDestroy(s->done);
    if (s->stream != NULL)
        (void)cudaStreamDestroy(s->stream);
    free(s);
}

sac_status sac_cuda_stream_open(sac_device *device, sac_stream **out, sac_error *err)
{
    sac_cuda_stream *s = (sac_cuda_stream *)calloc(1, sizeof *s);
    cudaError_t error;
    sac_status st;

    if (s == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a stream");
    s->base.device = device;
    error = cudaSetDevice(((sac_cuda_device *)device)->ordinal);
    if (error == cudaSuccess)
        error = cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&s->done, cudaEventDisableTiming | cudaEventBlockingSync);
    st = sac_cuda_status(device, error);
    if (st != SAC_OK) {
        free_stream(s);
        return sac_fail(err, st, "cuda:%d: no stream: %s", ((sac_cuda_device *)device)->ordinal,
                        cudaGetErrorString(error));
    }
    *out = &s->base;
    return SAC_OK;
}

void sac_cuda_stream_close(sac_stream *stream)
{
    sac_cuda_stream *s = cuda_stream(stream);

    (void)cudaStreamSynchronize(sac_cuda_stream_of(stream));
    sac_cuda_staging_close(&s->staging);
    sac_cuda_buffer_free(stream->device, stream->scratch);
    free_stream(s);
}

sac_status sac_cuda_stream_scratch(sac_stream *stream, size_t bytes, sac_error *err)
{
    const size_t before = stream->scratch_bytes;
    void *scratch = NULL;
    sac_status st = sac_cuda_buffer_alloc(stream->device, bytes, &scratch, err);

    if (st != SAC_OK && (st != SAC_DEVICE_MEMORY || before == 0))
        return st;
    sac_cuda_buffer_free(stream->device, stream->scratch);
    stream->scratch_bytes = 0;
    if (st != SAC_OK) /* there is no room for both, but there may be for the larger one alone */
        st = sac_cuda_buffer_alloc(stream->device, bytes, &scratch, err);
    if (st == SAC_OK)
        stream->scratch_bytes = bytes;
    else if (sac_cuda_buffer_alloc(stream->device, before, &scratch, NULL) == SAC_OK)
        stream->scratch_bytes = before;
    stream->scratch = (unsigned char *)scratch;
    return st;
}

/* ---- copies ------------------------------------------------------------------------------------------ */

sac_status sac_cuda_upload(sac_stream *stream, void *to, const void *from, size_t bytes)
{
    sac_cuda_stream *s = cuda_stream(stream);
    cudaStream_t cuda = sac_cuda_stream_of(stream);

    if (sac_cuda_host_owns(from, bytes))
        return outcome(stream, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, cuda));
    if (s->recording) /* what the ring holds now it will not hold when this is played */
        return outcome(stream, cudaErrorStreamCaptureUnsupported);
    return outcome(stream, sac_cuda_staging_upload(&s->staging, cuda, to, from, bytes));
}

sac_status sac_cuda_download(sac_stream *stream, void *to, const void *from, size_t bytes)
{
    sac_cuda_stream *s = cuda_stream(stream);
    cudaStream_t cuda = sac_cuda_stream_of(stream);

    if (!sac_cuda_host_owns(to, bytes)) {
        sac_status st =
            s->recording ? outcome(stream, cudaErrorStreamCaptureUnsupported) : sac_cuda_wait(stream);

        if (st != SAC_OK)
            return st; /* the runtime would wait as well, and burn a core meanwhile */
    }
    return outcome(stream, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, cuda));
}

sac_status sac_cuda_copy(sac_stream *stream, void *to, const void *from, size_t bytes)
{
    cudaStream_t cuda = sac_cuda_stream_of(stream);

    return outcome(stream, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, cuda));
}

sac_status sac_cuda_copy_rows(sac_stream *stream, void *to, size_t to_stride, const void *from,
                              size_t from_stride, size_t bytes, size_t rows)
{
    cudaStream_t cuda = sac_cuda_stream_of(stream);

    return outcome(stream,
                   cudaMemcpy2DAsync(to, to_stride, from, from_stride, bytes, rows, cudaMemcpyDefault, cuda));
}

sac_status sac_cuda_clear(sac_stream *stream, void *to, size_t bytes)
{
    return outcome(stream, cudaMemsetAsync(to, 0, bytes, sac_cuda_stream_of(stream)));
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

sac_status sac_cuda_wait(sac_stream *stream)
{
    sac_cuda_stream *s = cuda_stream(stream);
    cudaStream_t cuda = sac_cuda_stream_of(stream);
    const int64_t sleep_at = now_ns() + SPIN_NS;
    cudaError_t error;
    sac_status st;

    while ((error = cudaStreamQuery(cuda)) == cudaErrorNotReady && now_ns() < sleep_at)
        (void)cudaGetLastError(); /* "not ready" is kept for the next launch to report, and is no error */
    if (error == cudaErrorNotReady) {
        (void)cudaGetLastError();
        error = cudaEventRecord(s->done, cuda);
        if (error == cudaSuccess)
            error = cudaEventSynchronize(s->done);
    }
    st = outcome(stream, error);
    if (st == SAC_OK)
        sac_cuda_staging_reset(&s->staging);
    return st;
}

/* ---- marks ------------------------------------------------------------------------------------------- */

sac_status sac_cuda_event_open(sac_device *device, sac_event **out, sac_error *err)
{
    cuda_event *event = (cuda_event *)calloc(1, sizeof *event);
    cudaError_t error;
    sac_status st;

    if (event == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for an event");
    error = cudaSetDevice(((sac_cuda_device *)device)->ordinal);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&event->event, cudaEventDisableTiming);
    st = sac_cuda_status(device, error);
    if (st != SAC_OK) {
        free(event);
        return sac_fail(err, st, "cuda:%d: no event: %s", ((sac_cuda_device *)device)->ordinal,
                        cudaGetErrorString(error));
    }
    *out = &event->base;
    return SAC_OK;
}

void sac_cuda_event_close(sac_event *event)
{
    (void)cudaSetDevice(((sac_cuda_device *)event->device)->ordinal);
    (void)cudaEventDestroy(((cuda_event *)event)->event);
    free(event);
}

sac_status sac_cuda_event_record(sac_event *event, sac_stream *stream)
{
    return outcome(stream, cudaEventRecord(((cuda_event *)event)->event, sac_cuda_stream_of(stream)));
}

sac_status sac_cuda_await(sac_stream *stream, const sac_event *event)
{
    return outcome(stream,
                   cudaStreamWaitEvent(sac_cuda_stream_of(stream), ((const cuda_event *)event)->event, 0));
}

/* ---- recordings -------------------------------------------------------------------------------------- */

sac_status sac_cuda_record_begin(sac_stream *stream)
{
    sac_cuda_stream *s = cuda_stream(stream);
    /* Thread-local: other threads may allocate meanwhile. */
    cudaError_t error = cudaStreamBeginCapture(sac_cuda_stream_of(stream), cudaStreamCaptureModeThreadLocal);
    sac_status st = sac_cuda_status(stream->device, error);

    s->recording = st == SAC_OK;
    s->recorded = SAC_OK;
    return st;
}

sac_status sac_cuda_record_end(sac_stream *stream, sac_recording **out)
{
    sac_cuda_stream *s = cuda_stream(stream);
    cuda_recording *recording = (cuda_recording *)calloc(1, sizeof *recording);
    cudaGraph_t graph = NULL;
    cudaError_t error = cudaStreamEndCapture(sac_cuda_stream_of(stream), &graph);
    sac_status st;

    if (error == cudaSuccess && recording != NULL && s->recorded == SAC_OK)
        error = cudaGraphInstantiate(&recording->graph, graph, 0);
    st = outcome(stream, error);
    s->recording = false;
    if (st == SAC_OK)
        st = recording == NULL ? SAC_NO_MEMORY : s->recorded;
    if (graph != NULL)
        (void)cudaGraphDestroy(graph);
    if (st != SAC_OK) {
        free(recording);
        return st;
    }
    *out = &recording->base;
    return SAC_OK;
}

sac_status sac_cuda_play(sac_recording *recording, sac_stream *stream)
{
    return outcome(stream, cudaGraphLaunch(((cuda_recording *)recording)->graph, sac_cuda_stream_of(stream)));
}

void sac_cuda_recording_free(sac_recording *recording)
{
    (void)cudaSetDevice(((sac_cuda_device *)recording->device)->ordinal);
    (void)cudaGraphExecDestroy(((cuda_recording *)recording)->graph);
    free(recording);
}
