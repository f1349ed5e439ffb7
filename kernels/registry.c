/* The one place that knows which devices this build has, and what "auto" means. */
#include "kernels/backend.h"
#include "kernels/device.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS_MAX = 1024 };

static const struct sac_backend *const backends[] = {
    /* best first: "auto" takes the first */
    &sac_backend_cpu,
    &sac_backend_ref,
};

void sac_device_options_init(sac_device_options *options)
{
    *options = (sac_device_options){.name = "auto"};
}

/* NULL where there is none of that name. */
static const struct sac_backend *backend_find(const char *name)
{
    if (name == NULL || strcmp(name, "auto") == 0)
        return backends[0];
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++)
        if (strcmp(name, backends[i]->name) == 0)
            return backends[i];
    return NULL;
}

static sac_status backend_missing(const char *name, sac_error *err)
{
    if (strcmp(name, "cuda") == 0 || strncmp(name, "cuda:", 5) == 0)
        return sac_fail(err, SAC_UNSUPPORTED,
                        "device %s: this build has no CUDA backend; use \"auto\" or \"cpu\"", name);
    return sac_fail(err, SAC_INVALID_ARGUMENT, "device \"%s\" is unknown; use \"auto\", \"cpu\" or \"ref\"",
                    name);
}

sac_status sac_device_open(const sac_device_options *options, sac_device **out, sac_error *err)
{
    sac_device_options defaults;
    const struct sac_backend *backend;
    sac_device *device;
    sac_status st;

    *out = NULL;
    sac_device_options_init(&defaults);
    if (options == NULL)
        options = &defaults;
    backend = backend_find(options->name);
    if (backend == NULL)
        return backend_missing(options->name, err);
    if (options->threads > THREADS_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "device threads %u: at most %d", options->threads,
                        THREADS_MAX);
    device = calloc(1, sizeof *device);
    if (device == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a device");
    device->backend = backend;
    device->threads = backend->single_threaded ? 1
                      : options->threads > 0   ? options->threads
                                               : sac_parallel_cores();
    st = backend->setup(device, options->isa, err);
    if (st != SAC_OK)
        goto fail_setup;
    device->parallel = sac_parallel_open(device->threads);
    if (device->parallel == NULL) {
        st = sac_fail(err, SAC_NO_MEMORY, "cannot start %u threads for device %s", device->threads,
                      backend->name);
        goto fail_setup;
    }
    pthread_mutex_init(&device->idle_lock, NULL);
    *out = device;
    return SAC_OK;
fail_setup:
    free(device);
    return st;
}

void sac_device_close(sac_device *device)
{
    if (device == NULL)
        return;
    while (device->idle != NULL) {
        sac_stream *stream = device->idle;

        device->idle = stream->idle_next;
        sac_stream_close(stream);
    }
    pthread_mutex_destroy(&device->idle_lock);
    sac_parallel_close(device->parallel);
    free(device);
}

const char *sac_device_describe(const sac_device *device)
{
    return device->description;
}

uint32_t sac_device_threads(const sac_device *device)
{
    return device->threads;
}

const struct sac_ops *sac_device_ops(const sac_device *device)
{
    return &device->ops;
}
