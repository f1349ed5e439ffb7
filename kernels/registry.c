/* The one place that knows which kinds of devices there are, what their names mean, and what "auto" is. */
#include "kernels/backend.h"
#include "kernels/device.h"

#include <stdlib.h>
#include <string.h>

enum { THREADS_MAX = 1024, SHARDS_MAX = 64, ORDINAL_MAX = 255, NAME_MAX_BYTES = 32 };

/* One device to open. */
struct place {
    const struct sac_backend *backend;
    uint32_t ordinal;
};

void sac_device_options_init(sac_device_options *options)
{
    *options = (sac_device_options){.name = "auto"};
}

/* "cuda" and "cuda:N". */
static bool gpu_named(const char *name, uint32_t *ordinal)
{
    char *end;
    unsigned long n;

    *ordinal = 0;
    if (strcmp(name, "cuda") == 0)
        return true;
    if (strncmp(name, "cuda:", 5) != 0 || name[5] < '0' || name[5] > '9')
        return false;
    n = strtoul(name + 5, &end, 10);
    *ordinal = (uint32_t)n;
    return *end == '\0' && n <= ORDINAL_MAX;
}

static sac_status place_find(const char *name, bool require_gpu, struct place *out, sac_error *err)
{
    *out = (struct place){0};
    if (gpu_named(name, &out->ordinal))
        return sac_fail(err, SAC_UNSUPPORTED,
                        "device %s: this build has no CUDA backend; use \"auto\" or \"cpu\"", name);
    if (strcmp(name, "auto") == 0 && require_gpu)
        return sac_fail(err, SAC_UNSUPPORTED, "a GPU is required: this build has no CUDA backend");
    if (strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0)
        out->backend = &sac_backend_cpu;
    else if (strcmp(name, "ref") == 0)
        out->backend = &sac_backend_ref;
    else
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "device \"%s\" is unknown; use \"auto\", \"cpu\", \"cuda:N\" or \"ref\"", name);
    return SAC_OK;
}

/* The devices that a name with commas stands for, all of one kind. */
static sac_status places_find(const sac_device_options *options, struct place places[SHARDS_MAX],
                              uint32_t *count, sac_error *err)
{
    const char *rest = options->name;

    *count = 0;
    do {
        size_t bytes = strcspn(rest, ",");
        char name[NAME_MAX_BYTES];
        sac_status st;

        if (*count == SHARDS_MAX || bytes >= sizeof name)
            return sac_fail(err, SAC_INVALID_ARGUMENT,
                            "device \"%s\" is unknown; use \"auto\", \"cpu\", \"cuda:N\" or \"ref\"",
                            options->name);
        memcpy(name, rest, bytes);
        name[bytes] = '\0';
        rest += bytes + 1;
        st = place_find(name, options->require_gpu, &places[*count], err);
        if (st != SAC_OK)
            return st;
        if (places[*count].backend != places[0].backend)
            return sac_fail(err, SAC_INVALID_ARGUMENT, "device \"%s\": all of a list are of one kind",
                            options->name);
        ++*count;
    } while (rest[-1] == ',');
    return SAC_OK;
}

static sac_status one_open(const struct place *place, const sac_device_options *options, sac_device **out,
                           sac_error *err)
{
    sac_device *device;
    sac_status st = place->backend->open(options, place->ordinal, &device, err);

    if (st != SAC_OK)
        return st;
    device->backend = place->backend;
    device->shard_count = 1;
    device->host = place->backend->host_visible ? device : NULL;
    pthread_mutex_init(&device->idle_lock, NULL);
    *out = device;
    return SAC_OK;
}

static void one_close(sac_device *device)
{
    while (device->idle != NULL) {
        sac_stream *stream = device->idle;

        device->idle = stream->idle_next;
        sac_stream_close(stream);
    }
    pthread_mutex_destroy(&device->idle_lock);
    device->backend->close(device);
}

/* Opens what goes with the first device: its host, where it is not itself, and the other shards, who share
 * that host. */
static sac_status rest_open(sac_device *first, const struct place *places, uint32_t count,
                            const sac_device_options *options, sac_error *err)
{
    const struct place cpu = {.backend = &sac_backend_cpu};
    sac_status st = SAC_OK;

    if (first->host == NULL) {
        st = one_open(&cpu, options, &first->host, err);
        if (st != SAC_OK)
            return st;
        first->threads = first->host->threads;
    }
    if (count == 1)
        return SAC_OK;
    first->shards = calloc(count, sizeof(sac_device *));
    if (first->shards == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a device");
    first->shards[0] = first;
    while (first->shard_count < count && st == SAC_OK) {
        sac_device **next = &first->shards[first->shard_count];

        st = one_open(&places[first->shard_count], options, next, err);
        if (st != SAC_OK)
            break;
        if ((*next)->host == NULL)
            (*next)->host = first->host;
        (*next)->threads = first->threads;
        first->shard_count++;
    }
    return st;
}

sac_status sac_device_open(const sac_device_options *options, sac_device **out, sac_error *err)
{
    sac_device_options chosen;
    struct place places[SHARDS_MAX];
    sac_device *device;
    uint32_t count;
    sac_status st;

    *out = NULL;
    sac_device_options_init(&chosen);
    if (options != NULL)
        chosen = *options;
    if (chosen.name == NULL)
        chosen.name = "auto";
    if (chosen.threads > THREADS_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "device threads %u: at most %d", chosen.threads,
                        THREADS_MAX);
    st = places_find(&chosen, places, &count, err);
    if (st != SAC_OK)
        return st;
    st = one_open(&places[0], &chosen, &device, err);
    if (st != SAC_OK)
        return st;
    st = rest_open(device, places, count, &chosen, err);
    if (st != SAC_OK) {
        sac_device_close(device);
        return st;
    }
    *out = device;
    return SAC_OK;
}

void sac_device_close(sac_device *device)
{
    sac_device *host;

    if (device == NULL)
        return;
    for (uint32_t i = 1; i < device->shard_count; i++)
        one_close(device->shards[i]);
    free(device->shards);
    host = device->host;
    if (host != NULL && host != device)
        one_close(host);
    one_close(device);
}
