/* The one place that knows which kinds of devices there are, what their names mean, and what "auto" is. */
#include "kernels/backend.h"
#include "kernels/device.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS_MAX = 1024, ORDINAL_MAX = 255, NAME_MAX_BYTES = 32 };

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

/* The backend that a name between commas stands for. "auto" is not among them. */
static sac_status place_find(const char *name, struct place *out, sac_error *err)
{
    const char *why;

    *out = (struct place){0};
    if (strcmp(name, "cpu") == 0) {
        out->backend = &sac_backend_cpu;
    } else if (strcmp(name, "ref") == 0) {
        out->backend = &sac_backend_ref;
    } else if (gpu_named(name, &out->ordinal)) {
        out->backend = sac_module_load(&why);
        if (out->backend == NULL)
            return sac_fail(err, SAC_UNSUPPORTED, "device %s: no GPU: %s; use \"auto\" or \"cpu\"", name,
                            why);
    } else {
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "device \"%s\" is unknown; use \"auto\", \"cpu\", \"cuda:N\" or \"ref\"", name);
    }
    return SAC_OK;
}

/* The devices that a name with commas stands for, all of one kind. */
static sac_status places_find(const sac_device_options *options, struct place places[SAC_SHARDS_MAX],
                              uint32_t *count, sac_error *err)
{
    const char *rest = options->name;

    *count = 0;
    do {
        size_t bytes = strcspn(rest, ",");
        char name[NAME_MAX_BYTES];
        sac_status st;

        if (*count == SAC_SHARDS_MAX || bytes >= sizeof name)
            return sac_fail(err, SAC_INVALID_ARGUMENT,
                            "device \"%s\" is unknown; use \"auto\", \"cpu\", \"cuda:N\" or \"ref\"",
                            options->name);
        memcpy(name, rest, bytes);
        name[bytes] = '\0';
        rest += bytes + 1;
        st = place_find(name, &places[*count], err);
        if (st != SAC_OK)
            return st;
        if (places[*count].backend != places[0].backend)
            return sac_fail(err, SAC_INVALID_ARGUMENT, "device \"%s\": all of a list are of one kind",
                            options->name);
        ++*count;
    } while (rest[-1] == ',');
    return SAC_OK;
}

/* `share`: how many devices of this place are being opened. */
static sac_status one_open(const struct place *place, uint32_t share, const sac_device_options *options,
                           sac_device **out, sac_error *err)
{
    sac_device *device;
    sac_status st;

    assert(place->backend != NULL);
    st = place->backend->open(options, place->ordinal, share, &device, err);
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
    (void)sac_device_idle_close(device);
    pthread_mutex_destroy(&device->idle_lock);
    device->backend->close(device);
}

/* How many of the places are that one. */
static uint32_t share_of(const struct place *place, const struct place *places, uint32_t count)
{
    uint32_t share = 0;

    for (uint32_t i = 0; i < count; i++)
        share += places[i].ordinal == place->ordinal;
    return share;
}

/* Opens what goes with the first device: its host, where it is not itself, and the other shards, who share
 * that host. */
static sac_status rest_open(sac_device *first, const struct place *places, uint32_t count,
                            const sac_device_options *options, sac_error *err)
{
    const struct place cpu = {.backend = &sac_backend_cpu};
    sac_status st = SAC_OK;

    if (first->host == NULL) {
        st = one_open(&cpu, 1, options, &first->host, err);
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
    while (first->shard_count < count) {
        const struct place *place = &places[first->shard_count];
        sac_device **next = &first->shards[first->shard_count];

        st = one_open(place, share_of(place, places, count), options, next, err);
        if (st != SAC_OK)
            return st;
        if ((*next)->host == NULL)
            (*next)->host = first->host;
        (*next)->threads = first->threads;
        first->shard_count++;
    }
    return SAC_OK;
}

static sac_status list_open(const sac_device_options *options, sac_device **out, sac_error *err)
{
    struct place places[SAC_SHARDS_MAX] = {{0}};
    sac_device *device;
    uint32_t count;
    sac_status st;

    st = places_find(options, places, &count, err);
    if (st == SAC_OK)
        st = one_open(&places[0], share_of(&places[0], places, count), options, &device, err);
    if (st != SAC_OK)
        return st;
    if (options->require_gpu && device->host == device)
        st = sac_fail(err, SAC_INVALID_ARGUMENT, "a GPU is required, but device %s is none", options->name);
    else
        st = rest_open(device, places, count, options, err);
    if (st != SAC_OK) {
        sac_device_close(device);
        return st;
    }
    *out = device;
    return SAC_OK;
}

/* The GPU, or with the reason in its description the CPU. */
static sac_status auto_open(const sac_device_options *options, sac_device **out, sac_error *err)
{
    sac_device_options chosen = *options;
    sac_error no_gpu = {.status = SAC_UNSUPPORTED};
    const char *why;
    sac_status st;
    size_t used;

    chosen.name = "cuda:0";
    if (sac_module_load(&why) == NULL)
        snprintf(no_gpu.text, sizeof no_gpu.text, "%s", why);
    else if (list_open(&chosen, out, &no_gpu) == SAC_OK)
        return SAC_OK;
    if (options->require_gpu)
        return sac_fail(err, no_gpu.status, "a GPU is required, but %s", no_gpu.text);
    chosen.name = "cpu";
    st = list_open(&chosen, out, err);
    if (st != SAC_OK)
        return st;
    used = strlen((*out)->description);
    snprintf((*out)->description + used, sizeof(*out)->description - used, "; no GPU: %s", no_gpu.text);
    return SAC_OK;
}

sac_status sac_device_open(const sac_device_options *options, sac_device **out, sac_error *err)
{
    sac_device_options chosen;

    *out = NULL;
    sac_device_options_init(&chosen);
    if (options != NULL)
        chosen = *options;
    if (chosen.name == NULL)
        chosen.name = "auto";
    if (chosen.threads > THREADS_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "device threads %u: at most %d", chosen.threads,
                        THREADS_MAX);
    return strcmp(chosen.name, "auto") == 0 ? auto_open(&chosen, out, err) : list_open(&chosen, out, err);
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
