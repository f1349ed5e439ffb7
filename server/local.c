#include "server/local.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A server gives a picture half a second because others wait; here nobody does, and the machine may be busy.
 */
enum { DECODE_MS = 5000 };

void sac_local_init(struct sac_local *local)
{
    *local = (struct sac_local){
        .data = SAC_DEFAULT_DATA,
        .name = SAC_DEFAULT_COLLECTION,
        .precision = "auto",
    };
    sac_device_options_init(&local->device_options);
}

void sac_local_close(struct sac_local *local)
{
    sac_encoder_close(local->encoder);
    sac_collection_release(local->collection);
    sac_database_close(local->database);
    sac_device_close(local->device);
    local->encoder = NULL;
    local->collection = NULL;
    local->database = NULL;
    local->device = NULL;
}

/* ---- options ----------------------------------------------------------------------------------------- */

struct sac_option sac_option_data(struct sac_local *local)
{
    return (struct sac_option){
        .name = "data",
        .letter = 'd',
        .type = SAC_OPTION_TEXT,
        .value = &local->data,
        .argument = "DIR",
        .help = "the directory that holds the collections",
        .variable = "SACCADE_STORE__DATA",
    };
}

struct sac_option sac_option_collection(struct sac_local *local)
{
    return (struct sac_option){
        .name = "collection",
        .letter = 'c',
        .type = SAC_OPTION_TEXT,
        .value = &local->name,
        .argument = "NAME",
        .help = "the collection in it",
        .variable = "SACCADE_STORE__COLLECTION",
    };
}

struct sac_option sac_option_model(struct sac_local *local, const char *fallback)
{
    return (struct sac_option){
        .name = "model",
        .letter = 'm',
        .type = SAC_OPTION_TEXT,
        .value = &local->model,
        .argument = "DIR",
        .help = "what turns pictures into vectors: a folder with config.json and model.safetensors as on the "
                "Hugging Face hub, or \"builtin\", which needs no weights",
        .fallback = fallback,
        .variable = "SACCADE_ENCODER__MODEL",
    };
}

struct sac_option sac_option_precision(struct sac_local *local)
{
    return (struct sac_option){
        .name = "precision",
        .type = SAC_OPTION_TEXT,
        .value = &local->precision,
        .argument = "KIND",
        .help = "of the model's arithmetic; auto takes bf16 where the device has it",
        .choices = "auto f32 bf16",
        .variable = "SACCADE_ENCODER__PRECISION",
    };
}

struct sac_option sac_option_device(struct sac_local *local)
{
    return (struct sac_option){
        .name = "device",
        .type = SAC_OPTION_TEXT,
        .value = &local->device_options.name,
        .argument = "NAME",
        .help =
            "where the work runs: auto (a GPU, else the CPU), cpu, cuda:N (the N-th GPU), several GPUs as "
            "cuda:0,cuda:1, or ref (plain C, slow and simple)",
        .variable = "SACCADE_DEVICE__NAME",
    };
}

struct sac_option sac_option_require_gpu(struct sac_local *local)
{
    return (struct sac_option){
        .name = "require-gpu",
        .type = SAC_OPTION_FLAG,
        .value = &local->device_options.require_gpu,
        .help = "fail where there is no GPU, saying why, instead of taking the CPU",
        .variable = "SACCADE_DEVICE__REQUIRE_GPU",
    };
}

struct sac_option sac_option_device_memory(struct sac_local *local)
{
    return (struct sac_option){
        .name = "device-memory",
        .type = SAC_OPTION_BYTES,
        .value = &local->device_options.memory,
        .argument = "BYTES",
        .help = "of each GPU to use at most",
        .fallback = "what is free, less a twentieth",
        .variable = "SACCADE_DEVICE__MEMORY",
    };
}

struct sac_option sac_option_memory(struct sac_local *local)
{
    return (struct sac_option){
        .name = "memory",
        .type = SAC_OPTION_BYTES,
        .value = &local->device_options.host_memory,
        .argument = "BYTES",
        .help = "of this machine's to use at most: for indexes, and to build and search them. What does not "
                "fit is refused before it begins; what can do with less takes less",
        .fallback = "no limit",
        .variable = "SACCADE_DEVICE__HOST_MEMORY",
    };
}

struct sac_option sac_option_threads(struct sac_local *local)
{
    return (struct sac_option){
        .name = "threads",
        .letter = 't',
        .type = SAC_OPTION_U32,
        .value = &local->device_options.threads,
        .argument = "N",
        .help = "how many the work may use",
        .min = 0,
        .max = 1024,
        .fallback = "0: one per core",
        .variable = "SACCADE_DEVICE__THREADS",
    };
}

/* ---- opening ----------------------------------------------------------------------------------------- */

sac_status sac_local_open_device(struct sac_local *local, sac_error *err)
{
    return local->device != NULL ? SAC_OK : sac_device_open(&local->device_options, &local->device, err);
}

sac_status sac_local_open_database(struct sac_local *local, sac_open_mode mode, sac_error *err)
{
    sac_status st = sac_local_open_device(local, err);

    if (st == SAC_OK)
        st = sac_database_open(local->device, local->data, mode, &local->database, err);
    return st;
}

/* "no collection x in photos.sac: there are a, b" */
static sac_status no_collection(const struct sac_local *local, sac_error *err)
{
    char **names = NULL, known[256] = "";
    size_t count = 0, used = 0;
    sac_status st = sac_database_list(local->database, &names, &count, err);

    if (st != SAC_OK)
        return st;
    for (size_t i = 0; i < count && used < sizeof known - SAC_NAME_MAX - 4; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i == 0 ? "" : ", ", names[i]);
    free(names);
    if (count == 0)
        return sac_fail(err, SAC_NOT_FOUND, "%s holds no collection yet: saccade build makes one",
                        local->data);
    return sac_fail(err, SAC_NOT_FOUND, "no collection %s in %s: there %s %s", local->name, local->data,
                    count == 1 ? "is" : "are", known);
}

sac_status sac_local_open_collection(struct sac_local *local, sac_error *err)
{
    sac_status st = local->database != NULL ? SAC_OK : sac_local_open_database(local, SAC_OPEN_READ, err);

    if (st == SAC_OK)
        st = sac_collection_acquire(local->database, local->name, &local->collection, err);
    if (st == SAC_NOT_FOUND && local->database != NULL)
        st = no_collection(local, err);
    return st;
}

static sac_status open_encoder(struct sac_local *local, const char *model, sac_error *err)
{
    sac_encoder_options options;

    sac_encoder_options_init(&options);
    options.precision = local->precision;
    options.limits.milliseconds = DECODE_MS;
    return sac_encoder_open(local->device, model, &options, &local->encoder, err);
}

sac_status sac_local_open_encoder(struct sac_local *local, sac_error *err)
{
    sac_collection_params made;
    sac_status st;

    if (local->collection == NULL)
        return open_encoder(local, local->model == NULL ? "builtin" : local->model, err);
    sac_collection_describe(local->collection, &made);
    if (made.fingerprint[0] == '\0')
        return sac_fail(err, SAC_UNSUPPORTED,
                        "collection %s holds vectors that no model here made: ask with --vector or --id",
                        local->name);
    st = open_encoder(local, local->model == NULL ? made.model : local->model, err);
    if (st != SAC_OK || strcmp(sac_encoder_fingerprint(local->encoder), made.fingerprint) == 0)
        return st;
    return sac_fail(
        err, SAC_VERSION_MISMATCH,
        "collection %s was made with the model %s (fingerprint %.12s), and %s is another (%.12s): "
        "use that model, or build another collection with --collection",
        local->name, made.model, made.fingerprint, sac_encoder_name(local->encoder),
        sac_encoder_fingerprint(local->encoder));
}
