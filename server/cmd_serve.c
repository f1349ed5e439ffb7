#include "server/cmd.h"
#include "server/local.h"
#include "server/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int serve(const struct sac_command *command, int argc, char **argv);

const struct sac_command sac_cmd_serve = {
    .name = "serve",
    .summary = "answer searches over MessagePack-RPC",
    .operands = "",
    .about =
        "Serves the collections of --data on this machine until SIGTERM or SIGINT, then answers what is in\n"
        "flight and ends. PROTOCOL.md has the methods. Beside it, on the HTTP port: /livez, /readyz and\n"
        "/metrics (Prometheus). When connections are accepted, one line on stdout says where.\n"
        "\n"
        "  saccade serve                                        # ./photos.sac on 127.0.0.1:7700\n"
        "  saccade serve --data ./photos.sac --model ./vit      # `create` may name this model\n"
        "  saccade serve --listen 127.0.0.1:0 --http off        # any free port, told on stdout\n"
        "  saccade serve --socket /run/user/1000/saccade.sock   # a Unix socket besides\n",
    .run = serve,
};

/* "127.0.0.1:7700" or "[::1]:7700"; the host's text is written to host. */
static bool parse_address(const char *text, char host[64], uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    char *end;
    unsigned long value;
    size_t size;

    if (colon == NULL || colon[1] < '0' || colon[1] > '9')
        return false;
    value = strtoul(colon + 1, &end, 10);
    size = (size_t)(colon - text);
    if (*end != '\0' || end - colon > 6 || value > UINT16_MAX)
        return false;
    if (size >= 2 && text[0] == '[' && text[size - 1] == ']') {
        text++;
        size -= 2;
    }
    if (size == 0 || size >= 64)
        return false;
    memcpy(host, text, size);
    host[size] = '\0';
    *port = (uint16_t)value;
    return true;
}

/* On the loop thread, once connections are accepted. */
static void on_ready(void *context, const struct sac_server_address *where)
{
    const char *colons = strchr(where->host, ':') != NULL ? "[]" : "";

    (void)context;
    printf("ready rpc=%.1s%s%s:%u", colons, where->host, colons[0] != '\0' ? "]" : "", where->port);
    if (where->http_port != 0)
        printf(" http=%.1s%s%s:%u", colons, where->host, colons[0] != '\0' ? "]" : "", where->http_port);
    if (where->socket != NULL)
        printf(" socket=%s", where->socket);
    putchar('\n');
    fflush(stdout);
}

struct addresses {
    const char *listen, *http;
    char host[64], http_host[64];
};

static int read_addresses(const struct sac_command *command, struct addresses *at,
                          struct sac_server_config *config)
{
    if (!parse_address(at->listen, at->host, &config->port))
        return sac_usage_error(command, "--listen: \"%s\" is not HOST:PORT, like 127.0.0.1:7700", at->listen);
    config->host = at->host;
    config->http = strcmp(at->http, "off") != 0;
    if (!config->http)
        return -1;
    if (!parse_address(at->http, at->http_host, &config->http_port))
        return sac_usage_error(command, "--http: \"%s\" is not HOST:PORT, like 127.0.0.1:7701, nor off",
                               at->http);
    if (strcmp(at->http_host, at->host) != 0)
        return sac_usage_error(command, "--http and --listen are on one host: %s and %s differ",
                               at->http_host, at->host);
    return -1;
}

static int log_level(const char *name)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    int level = SAC_LOG_ERROR;

    while (strcmp(names[level], name) != 0)
        level++;
    return level;
}

static int parse(const struct sac_command *command, int argc, char **argv, struct sac_server_config *config,
                 struct addresses *at, struct sac_texts *models)
{
    struct sac_local local; /* for the options that commands share */
    const char *level = "info";
    struct sac_server_limits *limits = &config->limits;
    int code;

    sac_local_init(&local);
    const struct sac_option options[] = {
        sac_option_data(&local),
        {.name = "listen",
         .letter = 'l',
         .type = SAC_OPTION_TEXT,
         .value = &at->listen,
         .argument = "HOST:PORT",
         .help = "where clients connect: a loopback address; port 0 picks a free one",
         .variable = "SACCADE_SERVER__LISTEN"},
        {.name = "socket",
         .type = SAC_OPTION_TEXT,
         .value = &config->socket,
         .argument = "PATH",
         .help = "a Unix socket besides, in a directory of mode 0700",
         .variable = "SACCADE_SERVER__SOCKET"},
        {.name = "http",
         .type = SAC_OPTION_TEXT,
         .value = &at->http,
         .argument = "HOST:PORT",
         .help = "health and metrics, on the same host; \"off\": none",
         .variable = "SACCADE_SERVER__HTTP"},
        {.name = "model",
         .letter = 'm',
         .type = SAC_OPTION_TEXTS,
         .value = models,
         .argument = "DIR",
         .help = "a folder of weights to open at start, besides those the collections name; may be repeated",
         .variable = "SACCADE_ENCODER__MODEL"},
        sac_option_precision(&local),
        sac_option_device(&local),
        sac_option_require_gpu(&local),
        sac_option_device_memory(&local),
        sac_option_memory(&local),
        sac_option_threads(&local),
        {.name = "decode-threads",
         .type = SAC_OPTION_U32,
         .value = &config->decode_threads,
         .argument = "N",
         .help = "that decode pictures",
         .min = 0,
         .max = 256,
         .fallback = "0: one less than the cores",
         .variable = "SACCADE_SERVER__DECODE_THREADS"},
        {.name = "search-threads",
         .type = SAC_OPTION_U32,
         .value = &config->search_threads,
         .argument = "N",
         .help = "batches searched beside each other",
         .min = 0,
         .max = 64,
         .fallback = "0: 2",
         .variable = "SACCADE_SERVER__SEARCH_THREADS"},
        {.name = "embed-batch",
         .type = SAC_OPTION_U32,
         .value = &config->embed_batch,
         .argument = "N",
         .help = "pictures in one pass of the model",
         .min = 1,
         .max = 1024,
         .variable = "SACCADE_SERVER__EMBED_BATCH"},
        {.name = "search-batch",
         .type = SAC_OPTION_U32,
         .value = &config->search_batch,
         .argument = "N",
         .help = "queries in one search",
         .min = 1,
         .max = 4096,
         .variable = "SACCADE_SERVER__SEARCH_BATCH"},
        {.name = "queue-ms",
         .type = SAC_OPTION_U32,
         .value = &config->queue_ms,
         .argument = "N",
         .help = "predicted wait beyond which a request is refused as OVERLOADED",
         .min = 1,
         .max = 600000,
         .variable = "SACCADE_SERVER__QUEUE_MS"},
        {.name = "connections",
         .type = SAC_OPTION_U32,
         .value = &limits->connections,
         .argument = "N",
         .help = "open at once",
         .min = 1,
         .max = 65536,
         .variable = "SACCADE_LIMITS__CONNECTIONS"},
        {.name = "in-flight",
         .type = SAC_OPTION_U32,
         .value = &limits->in_flight,
         .argument = "N",
         .help = "requests of one connection",
         .min = 1,
         .max = 1024,
         .variable = "SACCADE_LIMITS__IN_FLIGHT"},
        {.name = "request-bytes",
         .type = SAC_OPTION_BYTES,
         .value = &limits->request_bytes,
         .argument = "BYTES",
         .help = "requests in memory, of all connections together",
         .min = 1 << 20,
         .max = 1099511627776.0,
         .variable = "SACCADE_LIMITS__REQUEST_BYTES"},
        {.name = "timeout-ms",
         .type = SAC_OPTION_U32,
         .value = &limits->timeout_ms,
         .argument = "N",
         .help = "of a request that names none",
         .min = 1,
         .max = 600000,
         .variable = "SACCADE_LIMITS__TIMEOUT_MS"},
        {.name = "timeout-ms-max",
         .type = SAC_OPTION_U32,
         .value = &limits->timeout_ms_max,
         .argument = "N",
         .help = "that a request may name",
         .min = 1,
         .max = 600000,
         .variable = "SACCADE_LIMITS__TIMEOUT_MS_MAX"},
        {.name = "idle-ms",
         .type = SAC_OPTION_U32,
         .value = &limits->idle_ms,
         .argument = "N",
         .help = "after which a silent connection is closed",
         .min = 10,
         .max = 86400000,
         .variable = "SACCADE_LIMITS__IDLE_MS"},
        {.name = "drain-ms",
         .type = SAC_OPTION_U32,
         .value = &limits->drain_ms,
         .argument = "N",
         .help = "time to answer what is in flight after SIGTERM",
         .min = 0,
         .max = 600000,
         .variable = "SACCADE_LIMITS__DRAIN_MS"},
        {.name = "log",
         .type = SAC_OPTION_TEXT,
         .value = &level,
         .argument = "LEVEL",
         .help = "what goes to stderr",
         .choices = "error warn info debug",
         .variable = "SACCADE_LOG__LEVEL"},
    };
    struct sac_arguments a = {
        .command = command, .options = options, .option_count = sizeof options / sizeof *options};
    code = sac_arguments_parse(&a, argc, argv);
    if (code < 0 && a.operand_count > 0)
        code = sac_usage_error(command, "\"%s\" is too much: the directory goes with --data", a.operands[0]);
    config->data = local.data;
    config->device = local.device_options;
    config->encoder.precision = local.precision;
    config->log_level = log_level(level);
    return code < 0 ? read_addresses(command, at, config) : code;
}

static int serve(const struct sac_command *command, int argc, char **argv)
{
    struct sac_server_config config;
    struct addresses at = {.listen = "127.0.0.1:7700", .http = "127.0.0.1:7701"};
    struct sac_texts models = {0};
    sac_error err = {0};
    int code;

    sac_server_config_init(&config);
    code = parse(command, argc, argv, &config, &at, &models);
    if (code < 0) {
        config.models = models.at;
        config.model_count = models.count;
        config.on_ready = on_ready;
        code = sac_cmd_end(command, sac_server_run(&config, &err), &err);
    }
    free(models.at);
    return code;
}
