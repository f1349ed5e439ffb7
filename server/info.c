#include "server/info.h"

#include "server/human.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

json_t *sac_info_program(const sac_device *device)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "version", sac_version(), "compiler", COMPILER, "device",
                     sac_device_describe(device), "image_formats", sac_image_formats());
}

static json_t *curve_json(const sac_collection *collection)
{
    sac_recall_point points[64];
    size_t n = sac_collection_recall_curve(collection, points, sizeof points / sizeof *points);
    json_t *curve = json_array();

    for (size_t i = 0; i < n && i < sizeof points / sizeof *points; i++)
        json_array_append_new(curve, json_pack("{s:f, s:i, s:i, s:f}", "recall", (double)points[i].recall,
                                               "nprobe", (int)points[i].nprobe, "depth", (int)points[i].depth,
                                               "reach", (double)points[i].reach));
    return curve;
}

json_t *sac_info_collection(const char *name, const sac_collection *collection)
{
    sac_collection_params made;
    sac_collection_info info;

    sac_collection_describe(collection, &made);
    sac_collection_stats(collection, &info);
    return json_pack(
        "{s:s, s:I, s:i, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:f, s:b, s:b, s:I, s:I, s:I, s:I, s:b, s:o}",
        "collection", name, "count", (json_int_t)info.count, "dim", (int)made.dim, "metric",
        sac_metric_name(made.metric), "model", made.model, "fingerprint", made.fingerprint, "index",
        info.index.spec, "nlist", (int)info.index.nlist, "m", (int)info.index.m, "nbits",
        (int)info.index.nbits, "list_imbalance", info.index.list_imbalance, "trained",
        (int)info.index.trained, "measured", (int)info.index.measured, "bytes_store",
        (json_int_t)info.bytes_store, "bytes_codes", (json_int_t)info.index.bytes_codes, "bytes_vectors",
        (json_int_t)info.index.bytes_vectors, "bytes_other", (json_int_t)info.index.bytes_other, "read_only",
        (int)info.read_only, "recall", curve_json(collection));
}

/* ---- for people ---------------------------------------------------------------------------------------- */

/* Fields of an object; missing ones are "", 0 and 0. */
static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text == NULL ? "" : text;
}

static uint64_t count_of(const json_t *object, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(object, name));
}

static void print_text(const char *label, const char *text)
{
    char *safe = text[0] == '\0' ? NULL : sac_human_text(text, strlen(text), true);

    if (safe != NULL)
        printf("  %-10s %s\n", label, safe);
    free(safe);
}

/* The cheapest way to each of the recalls that people ask for; --json has every point. */
static void print_curve(const json_t *curve)
{
    static const double steps[] = {0.8, 0.9, 0.95, 0.98, 0.99, 1};
    size_t step = 0;

    printf("  %-10s nprobe  depth  reach\n", "recall@10");
    for (size_t i = 0; i < json_array_size(curve) && step < sizeof steps / sizeof *steps; i++) {
        const json_t *point = json_array_get(curve, i);
        double recall = json_number_value(json_object_get(point, "recall"));
        double reach = json_number_value(json_object_get(point, "reach"));
        if (recall < steps[step])
            continue;
        printf("  %-10.3f %6llu %6llu %6.2f\n", recall, (unsigned long long)count_of(point, "nprobe"),
               (unsigned long long)count_of(point, "depth"), reach);
        while (step < sizeof steps / sizeof *steps && recall >= steps[step])
            step++;
    }
}

static void print_index(const json_t *c)
{
    const json_t *curve = json_object_get(c, "recall");
    char codes[SAC_HUMAN_SIZE], vectors[SAC_HUMAN_SIZE], other[SAC_HUMAN_SIZE];

    print_text("index", text_of(c, "index"));
    printf("  %-10s %s codes, %s vectors, %s other\n", "memory",
           sac_human_bytes(count_of(c, "bytes_codes"), codes),
           sac_human_bytes(count_of(c, "bytes_vectors"), vectors),
           sac_human_bytes(count_of(c, "bytes_other"), other));
    if (count_of(c, "nlist") > 0)
        printf("  %-10s %llu, imbalance %.2f\n", "lists", (unsigned long long)count_of(c, "nlist"),
               json_number_value(json_object_get(c, "list_imbalance")));
    if (json_array_size(curve) > 0)
        print_curve(curve);
}

static void print_collection(const json_t *c)
{
    char count[SAC_HUMAN_SIZE], bytes[SAC_HUMAN_SIZE], model[200];

    printf("\n%s\n", text_of(c, "collection"));
    printf("  %-10s %s of %llu components, %s%s\n", "items", sac_human_count(count_of(c, "count"), count),
           (unsigned long long)count_of(c, "dim"), text_of(c, "metric"),
           json_is_true(json_object_get(c, "read_only")) ? ", read only: a write failed" : "");
    snprintf(model, sizeof model, "%s (%.12s)", text_of(c, "model"), text_of(c, "fingerprint"));
    print_text("model", text_of(c, "model")[0] == '\0' ? "none: vectors only" : model);
    print_text("trouble", text_of(c, "images_error"));
    printf("  %-10s %s\n", "on disk", sac_human_bytes(count_of(c, "bytes_store"), bytes));
    print_index(c);
}

void sac_info_print(const json_t *info)
{
    const json_t *collections = json_object_get(info, "collections"),
                 *formats = json_object_get(info, "image_formats");

    printf("saccade %s%s%s\n", text_of(info, "version"),
           text_of(info, "compiler")[0] != '\0' ? ", built with " : "", text_of(info, "compiler"));
    print_text("device", text_of(info, "device"));
    if (json_is_string(formats))
        print_text("pictures", json_string_value(formats));
    print_text("data", text_of(info, "data"));
    if (collections != NULL && json_array_size(collections) == 0)
        printf("\nno collections yet: saccade build makes one\n");
    for (size_t i = 0; i < json_array_size(collections); i++)
        print_collection(json_array_get(collections, i));
}
