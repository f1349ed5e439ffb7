#include "server/config.h"

#include <arpa/inet.h>
#include <string.h>

static void limits_init(struct sac_server_limits *limits)
{
    *limits = (struct sac_server_limits){
        .connections = 1024,
        .control_bytes = 64u << 10,
        .search_bytes = 16u << 20,
        .put_bytes = 16u << 20,
        .elements = 8192,
        .put_elements = 65536,
        .depth = 8,
        .images = 64,
        .queries = 256,
        .items = 1000,
        .in_flight = 64,
        .request_bytes = 256ull << 20,
        .output_soft_bytes = 4u << 20,
        .output_hard_bytes = 16u << 20,
        .message_ms = 10000,
        .message_bytes_per_s_min = 64u << 10,
        .idle_ms = 300000,
        .write_stall_ms = 10000,
        .timeout_ms = 1000,
        .timeout_ms_max = 30000,
        .drain_ms = 10000,
    };
}

void sac_server_config_init(struct sac_server_config *config)
{
    memset(config, 0, sizeof *config);
    config->host = "127.0.0.1";
    config->port = 7700;
    config->http = true;
    config->http_port = 7701;
    sac_device_options_init(&config->device);
    sac_encoder_options_init(&config->encoder);
    config->embed_batch = 64;
    config->search_batch = 256;
    config->queue_ms = 250;
    config->queue_bytes = 128ull << 20;
    config->log_level = SAC_LOG_INFO;
    limits_init(&config->limits);
}

struct range {
    const char *name;
    uint64_t value, min, max;
};

static sac_status check_ranges(const struct range *ranges, size_t n, sac_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct range *r = &ranges[i];
        if (r->value < r->min || r->value > r->max)
            return sac_fail(err, SAC_INVALID_ARGUMENT, "%s is %llu: allowed are %llu to %llu", r->name,
                            (unsigned long long)r->value, (unsigned long long)r->min,
                            (unsigned long long)r->max);
    }
    return SAC_OK;
}

static sac_status check_limits(const struct sac_server_limits *l, sac_error *err)
{
    const uint64_t message_max = 64ull << 20;
    const struct range ranges[] = {
        {"limits.connections", l->connections, 1, 65536},
        {"limits.control_bytes", l->control_bytes, 1024, message_max},
        {"limits.search_bytes", l->search_bytes, 1024, message_max},
        {"limits.put_bytes", l->put_bytes, 1024, message_max},
        {"limits.elements", l->elements, 64, 65536},
        {"limits.put_elements", l->put_elements, 64, 65536},
        {"limits.depth", l->depth, 5, 16},
        {"limits.images", l->images, 1, 1024},
        {"limits.queries", l->queries, 1, 4096},
        {"limits.items", l->items, 1, 10000},
        {"limits.in_flight", l->in_flight, 1, 1024},
        {"limits.request_bytes", l->request_bytes, 1u << 20, UINT64_MAX},
        {"limits.output_soft_bytes", l->output_soft_bytes, 4096, message_max},
        {"limits.output_hard_bytes", l->output_hard_bytes, l->output_soft_bytes, message_max},
        {"limits.message_ms", l->message_ms, 10, 60000},
        {"limits.idle_ms", l->idle_ms, 10, UINT32_MAX},
        {"limits.write_stall_ms", l->write_stall_ms, 10, 60000},
        {"limits.timeout_ms_max", l->timeout_ms_max, 1, 600000},
        {"limits.timeout_ms", l->timeout_ms, 1, l->timeout_ms_max},
        {"limits.drain_ms", l->drain_ms, 0, 600000},
    };
    return check_ranges(ranges, sizeof ranges / sizeof *ranges, err);
}

/* Anybody who reaches the port may write, so it is reachable from this machine only. */
static sac_status check_host(const char *host, sac_error *err)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, host, &v4) == 1) {
        if (ntohl(v4.s_addr) >> 24 == 127)
            return SAC_OK;
    } else if (inet_pton(AF_INET6, host, &v6) == 1) {
        if (IN6_IS_ADDR_LOOPBACK(&v6))
            return SAC_OK;
    } else {
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "host %s is not a numeric address: 127.0.0.1 or ::1 are meant", host);
    }
    return sac_fail(err, SAC_INVALID_ARGUMENT,
                    "host %s is reachable from other machines, and this version has no access tokens: "
                    "listen on 127.0.0.1 and put a TLS proxy or an SSH tunnel in front",
                    host);
}

sac_status sac_server_config_check(const struct sac_server_config *config, sac_error *err)
{
    const struct range ranges[] = {
        {"decode_threads", config->decode_threads, 0, 256},
        {"search_threads", config->search_threads, 0, 64},
        {"embed_batch", config->embed_batch, 1, 1024},
        {"search_batch", config->search_batch, 1, 4096},
        {"queue_ms", config->queue_ms, 1, 600000},
        {"queue_bytes", config->queue_bytes, 1u << 20, UINT64_MAX},
    };
    sac_status st;

    if (config->data == NULL || config->data[0] == '\0')
        return sac_fail(err, SAC_INVALID_ARGUMENT, "no data directory: name one");
    st = check_host(config->host, err);
    if (st == SAC_OK)
        st = check_ranges(ranges, sizeof ranges / sizeof *ranges, err);
    if (st == SAC_OK)
        st = check_limits(&config->limits, err);
    return st;
}
