#include "server/client.h"
#include "server/cmd.h"
#include "server/info.h"
#include "server/local.h"
#include "server/wire_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int info(const struct sac_command *command, int argc, char **argv);

const struct sac_command sac_cmd_info = {
    .name = "info",
    .summary = "tell about this program, its collections, or a server",
    .operands = "",
    .about =
        "Version, device and formats; then every collection of --data, or the one of --collection: how many\n"
        "items, which model and index, how large, and which recall costs how much searching.\n"
        "\n"
        "  saccade info                                # with ./photos.sac, if there is one\n"
        "  saccade info --data /srv/p.sac --json\n"
        "  saccade info --connect 127.0.0.1:7700       # what a server says about itself\n",
    .run = info,
};

struct asking {
    struct sac_local local;
    const char *connect;
    const char *only; /* the one collection wanted; NULL: all */
    bool data_needed; /* --data was given: it must be there */
    json_t *answer;
    sac_error *err;
};

static sac_status no_memory(sac_error *err)
{
    return sac_fail(err, SAC_NO_MEMORY, "no memory for the answer");
}

/* ---- this machine -------------------------------------------------------------------------------------- */

static sac_status add_collection(struct asking *a, json_t *list, const char *name)
{
    sac_status st;
    json_t *one;

    a->local.name = name;
    st = sac_local_open_collection(&a->local, a->err);
    if (st != SAC_OK)
        return st;
    one = sac_info_collection(name, a->local.collection);
    sac_collection_release(a->local.collection);
    a->local.collection = NULL;
    return json_array_append_new(list, one) == 0 ? SAC_OK : no_memory(a->err);
}

static sac_status ask_collections(struct asking *a)
{
    json_t *list = json_array();
    char **names = NULL;
    size_t count = 0;
    sac_status st = sac_local_open_database(&a->local, SAC_OPEN_READ, a->err);

    if (json_object_set_new(a->answer, "data", json_string(a->local.data)) != 0 ||
        json_object_set_new(a->answer, "collections", list) != 0)
        return no_memory(a->err);
    if (st == SAC_OK && a->only != NULL)
        return add_collection(a, list, a->only);
    if (st == SAC_OK)
        st = sac_database_list(a->local.database, &names, &count, a->err);
    for (size_t i = 0; st == SAC_OK && i < count; i++)
        st = add_collection(a, list, names[i]);
    free(names);
    return st;
}

static sac_status ask_here(struct asking *a)
{
    sac_status st = sac_local_open_device(&a->local, a->err);

    if (st != SAC_OK)
        return st;
    a->answer = sac_info_program(a->local.device);
    if (a->answer == NULL)
        return no_memory(a->err);
    if (!a->data_needed && a->only == NULL && access(a->local.data, F_OK) != 0)
        return SAC_OK;
    return ask_collections(a);
}

/* ---- a server ------------------------------------------------------------------------------------------ */

/* Calls a method with nothing, or with a collection's name. */
static sac_status call(struct asking *a, sac_client *client, const char *method, const char *collection,
                       json_t **out)
{
    const msgpack_object *result;
    msgpack_sbuffer fields;
    msgpack_packer pack;
    sac_status st;

    msgpack_sbuffer_init(&fields);
    msgpack_packer_init(&pack, &fields, msgpack_sbuffer_write);
    msgpack_pack_map(&pack, collection != NULL);
    if (collection != NULL) {
        msgpack_pack_str_with_body(&pack, "collection", 10);
        msgpack_pack_str_with_body(&pack, collection, strlen(collection));
    }
    st = sac_client_call(client, method, &fields, &result, a->err);
    msgpack_sbuffer_destroy(&fields);
    *out = NULL;
    if (st != SAC_OK)
        return st;
    *out = sac_wire_json(result);
    if (json_is_object(*out))
        return SAC_OK;
    json_decref(*out);
    *out = NULL;
    return sac_fail(a->err, SAC_MALFORMED, "the server's answer to %s is not what PROTOCOL.md says", method);
}

/* What `info` and `stats` say about a collection, in one object. */
static sac_status add_remote(struct asking *a, sac_client *client, json_t *list, const char *name)
{
    json_t *one, *stats = NULL;
    sac_status st = call(a, client, "info", name, &one);

    if (st == SAC_OK)
        st = call(a, client, "stats", name, &stats);
    if (st == SAC_OK && (json_object_update_missing(one, stats) != 0 || json_array_append(list, one) != 0))
        st = no_memory(a->err);
    json_decref(one);
    json_decref(stats);
    return st;
}

static sac_status ask_all_remote(struct asking *a, sac_client *client, json_t *list)
{
    json_t *answer;
    sac_status st = call(a, client, "list", NULL, &answer);
    const json_t *names = json_object_get(answer, "collections");

    for (size_t i = 0; st == SAC_OK && i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name != NULL)
            st = add_remote(a, client, list, name);
    }
    json_decref(answer);
    return st;
}

static sac_status ask_server(struct asking *a)
{
    sac_client *client;
    json_t *list = json_array();
    sac_status st = sac_client_open(a->connect, 10000, &client, a->err);

    if (st == SAC_OK)
        st = call(a, client, "info", NULL, &a->answer);
    if (st == SAC_OK)
        st = a->only != NULL ? add_remote(a, client, list, a->only) : ask_all_remote(a, client, list);
    if (st == SAC_OK && json_object_set(a->answer, "collections", list) != 0)
        st = no_memory(a->err);
    json_decref(list);
    sac_client_close(client);
    return st;
}

/* ---- the command --------------------------------------------------------------------------------------- */

static int run(const struct sac_command *command, struct asking *a, bool json)
{
    sac_status st = a->connect != NULL ? ask_server(a) : ask_here(a);

    if (st == SAC_OK && json) {
        json_dumpf(a->answer, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        putchar('\n');
    } else if (st == SAC_OK) {
        sac_info_print(a->answer);
    }
    json_decref(a->answer);
    sac_local_close(&a->local);
    return sac_cmd_end(command, st, a->err);
}

static int info(const struct sac_command *command, int argc, char **argv)
{
    sac_error err = {0};
    struct asking asking = {.err = &err};
    bool json = false;
    int code;

    sac_local_init(&asking.local);
    const struct sac_option options[] = {
        sac_option_data(&asking.local),
        {.name = "collection",
         .letter = 'c',
         .type = SAC_OPTION_TEXT,
         .value = &asking.only,
         .argument = "NAME",
         .help = "only this one",
         .fallback = "all"},
        {.name = "connect",
         .type = SAC_OPTION_TEXT,
         .value = &asking.connect,
         .argument = "ADDRESS",
         .help = "ask the server at HOST:PORT or unix:PATH instead",
         .variable = "SACCADE_CLIENT__CONNECT"},
        {.name = "json",
         .letter = 'j',
         .type = SAC_OPTION_FLAG,
         .value = &json,
         .help = "all of it as one JSON object"},
        sac_option_device(&asking.local),
        sac_option_require_gpu(&asking.local),
        sac_option_device_memory(&asking.local),
        sac_option_threads(&asking.local),
    };
    struct sac_arguments a = {
        .command = command, .options = options, .option_count = sizeof options / sizeof *options};
    code = sac_arguments_parse(&a, argc, argv);
    if (code < 0 && a.operand_count > 0)
        code = sac_usage_error(command, "\"%s\" is too much: the directory goes with --data", a.operands[0]);
    if (code < 0 && sac_arguments_given(&a, "connect") && sac_arguments_given(&a, "data"))
        code =
            sac_usage_error(command, "--data reads this machine's files, --connect asks a server: give one");
    if (code >= 0)
        return code;
    asking.data_needed = sac_arguments_given(&a, "data");
    if (asking.data_needed)
        asking.connect = NULL; /* the command line goes before the environment */
    return run(command, &asking, json);
}
