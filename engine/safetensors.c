#include "engine/safetensors.h"

#include "kernels/half.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct sac_safetensors {
    char *path; /* for messages */
    int fd;     /* -1: parsed from memory */
    uint64_t data_at;
    size_t count;
    sac_tensor *tensors; /* [count], ascending in begin, then in bytes */
};

/* ---- header ----------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    sac_tensor_type type;
    uint32_t bytes;
} types[] = {
    {"F32", SAC_TENSOR_F32, 4},    {"F16", SAC_TENSOR_F16, 2},       {"BF16", SAC_TENSOR_BF16, 2},
    {"F64", SAC_TENSOR_OTHER, 8},  {"I64", SAC_TENSOR_OTHER, 8},     {"U64", SAC_TENSOR_OTHER, 8},
    {"I32", SAC_TENSOR_OTHER, 4},  {"U32", SAC_TENSOR_OTHER, 4},     {"I16", SAC_TENSOR_OTHER, 2},
    {"U16", SAC_TENSOR_OTHER, 2},  {"I8", SAC_TENSOR_OTHER, 1},      {"U8", SAC_TENSOR_OTHER, 1},
    {"BOOL", SAC_TENSOR_OTHER, 1}, {"F8_E4M3", SAC_TENSOR_OTHER, 1}, {"F8_E5M2", SAC_TENSOR_OTHER, 1},
};

/* The JSON library recurses up to 2048 levels before it says no; our own limit comes first. */
static bool nested_too_deep(const char *json, size_t size)
{
    uint32_t depth = 0;
    bool text = false;

    for (size_t i = 0; i < size; i++) {
        char c = json[i];

        if (text && c == '\\')
            i++;
        else if (c == '"')
            text = !text;
        else if (!text && (c == '{' || c == '['))
            depth++;
        else if (!text && (c == '}' || c == ']') && depth > 0)
            depth--;
        if (depth > SAC_SAFETENSORS_DEPTH_MAX)
            return true;
    }
    return false;
}

static bool whole_number(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static sac_status read_shape(sac_tensor *t, const json_t *shape, sac_error *err)
{
    if (!json_is_array(shape) || json_array_size(shape) > SAC_TENSOR_RANK_MAX)
        return sac_fail(err, SAC_MALFORMED, "tensor %s: shape must be an array of up to %u numbers", t->name,
                        SAC_TENSOR_RANK_MAX);
    t->rank = (uint32_t)json_array_size(shape);
    t->count = 1;
    for (uint32_t i = 0; i < t->rank; i++) {
        if (!whole_number(json_array_get(shape, i), &t->shape[i]))
            return sac_fail(err, SAC_MALFORMED, "tensor %s: shape holds something else than whole numbers",
                            t->name);
        if (__builtin_mul_overflow(t->count, t->shape[i], &t->count))
            return sac_fail(err, SAC_MALFORMED, "tensor %s: the product of its shape overflows", t->name);
    }
    return SAC_OK;
}

static sac_status read_type(sac_tensor *t, const json_t *dtype, sac_error *err)
{
    const char *name = json_string_value(dtype);

    for (size_t i = 0; name != NULL && i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(name, types[i].name) != 0)
            continue;
        t->type = types[i].type;
        if (__builtin_mul_overflow(t->count, types[i].bytes, &t->bytes))
            return sac_fail(err, SAC_MALFORMED, "tensor %s: its size in bytes overflows", t->name);
        return SAC_OK;
    }
    return sac_fail(err, SAC_MALFORMED, "tensor %s: unknown dtype %.32s", t->name,
                    name != NULL ? name : "(no text)");
}

static sac_status read_tensor(sac_tensor *t, const json_t *entry, sac_error *err)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    uint64_t end;
    sac_status st;

    if (!json_is_object(entry) || json_object_size(entry) != 3)
        return sac_fail(err, SAC_MALFORMED, "tensor %s must have dtype, shape and data_offsets, nothing else",
                        t->name);
    st = read_shape(t, json_object_get(entry, "shape"), err);
    if (st != SAC_OK)
        return st;
    st = read_type(t, json_object_get(entry, "dtype"), err);
    if (st != SAC_OK)
        return st;
    if (json_array_size(offsets) != 2 || !whole_number(json_array_get(offsets, 0), &t->begin) ||
        !whole_number(json_array_get(offsets, 1), &end) || end < t->begin)
        return sac_fail(err, SAC_MALFORMED, "tensor %s: data_offsets must be two ascending whole numbers",
                        t->name);
    if (end - t->begin != t->bytes)
        return sac_fail(err, SAC_MALFORMED,
                        "tensor %s: its shape takes %llu bytes, its data_offsets hold %llu", t->name,
                        (unsigned long long)t->bytes, (unsigned long long)(end - t->begin));
    return SAC_OK;
}

static int by_place(const void *a, const void *b)
{
    const sac_tensor *s = a, *t = b;

    if (s->begin != t->begin)
        return s->begin < t->begin ? -1 : 1;
    return (s->bytes > t->bytes) - (s->bytes < t->bytes);
}

/* Every byte of the data belongs to exactly one tensor. */
static sac_status check_places(sac_safetensors *file, uint64_t data_bytes, sac_error *err)
{
    uint64_t at = 0;

    if (file->count > 0)
        qsort(file->tensors, file->count, sizeof file->tensors[0], by_place);
    for (size_t i = 0; i < file->count; i++) {
        const sac_tensor *t = &file->tensors[i];

        if (t->begin != at)
            return sac_fail(err, SAC_MALFORMED, "tensor %s %s the one before it", t->name,
                            t->begin < at ? "overlaps" : "leaves a hole behind");
        if (t->bytes > data_bytes - at)
            return sac_fail(err, SAC_MALFORMED, "tensor %s reaches beyond the end of the file", t->name);
        at += t->bytes;
    }
    if (at != data_bytes)
        return sac_fail(err, SAC_MALFORMED, "%llu bytes after the last tensor",
                        (unsigned long long)(data_bytes - at));
    return SAC_OK;
}

static sac_status read_tensors(sac_safetensors *file, json_t *header, sac_error *err)
{
    size_t entries = json_object_size(header);
    const char *name;
    json_t *entry;

    if (entries > SAC_SAFETENSORS_TENSORS_MAX + 1) /* one may be __metadata__ */
        return sac_fail(err, SAC_TOO_LARGE, "%zu tensors: at most %u", entries, SAC_SAFETENSORS_TENSORS_MAX);
    file->tensors = calloc(entries + 1, sizeof file->tensors[0]);
    if (file->tensors == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for %zu tensors", entries);
    json_object_foreach(header, name, entry)
    {
        sac_tensor *t = &file->tensors[file->count];
        sac_status st;

        if (strcmp(name, "__metadata__") == 0)
            continue;
        if (file->count == SAC_SAFETENSORS_TENSORS_MAX)
            return sac_fail(err, SAC_TOO_LARGE, "more than %u tensors", SAC_SAFETENSORS_TENSORS_MAX);
        if (name[0] == '\0' || strlen(name) > SAC_SAFETENSORS_NAME_MAX)
            return sac_fail(err, SAC_MALFORMED, "a tensor's name must have 1 to %u bytes",
                            SAC_SAFETENSORS_NAME_MAX);
        t->name = strdup(name);
        if (t->name == NULL)
            return sac_fail(err, SAC_NO_MEMORY, "no memory for the name of a tensor");
        file->count++; /* from here on sac_safetensors_close() frees the name */
        st = read_tensor(t, entry, err);
        if (st != SAC_OK)
            return st;
    }
    return SAC_OK;
}

sac_status sac_safetensors_parse(const char *header, size_t header_bytes, uint64_t data_bytes,
                                 sac_safetensors **out, sac_error *err)
{
    sac_safetensors *file;
    json_error_t where;
    json_t *json;
    sac_status st;

    *out = NULL;
    if (header_bytes > SAC_SAFETENSORS_HEADER_MAX)
        return sac_fail(err, SAC_TOO_LARGE, "a header of %zu bytes: at most %zu", header_bytes,
                        SAC_SAFETENSORS_HEADER_MAX);
    if (nested_too_deep(header, header_bytes))
        return sac_fail(err, SAC_MALFORMED, "the header is nested more than %u deep",
                        SAC_SAFETENSORS_DEPTH_MAX);
    json = json_loadb(header, header_bytes, JSON_REJECT_DUPLICATES, &where);
    if (json == NULL)
        return sac_fail(err, SAC_MALFORMED, "the header is no JSON: %s at byte %d", where.text,
                        where.position);
    file = calloc(1, sizeof *file);
    if (file == NULL) {
        json_decref(json);
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a header");
    }
    file->fd = -1;
    st = json_is_object(json) ? read_tensors(file, json, err)
                              : sac_fail(err, SAC_MALFORMED, "the header is no JSON object");
    json_decref(json);
    if (st == SAC_OK)
        st = check_places(file, data_bytes, err);
    if (st != SAC_OK) {
        sac_safetensors_close(file);
        return st;
    }
    *out = file;
    return SAC_OK;
}

/* ---- file ------------------------------------------------------------------------------------------- */

/* Exactly `bytes` from `at`. */
static sac_status read_bytes(int fd, uint64_t at, void *to, size_t bytes, const char *path, sac_error *err)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t got = pread(fd, (char *)to + done, bytes - done, (off_t)(at + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return sac_fail(err, SAC_IO, "reading %s: %s", path, strerror(errno));
        if (got == 0)
            return sac_fail(err, SAC_IO, "%s became shorter while it was read", path);
        done += (size_t)got;
    }
    return SAC_OK;
}

static sac_status load_header(int fd, const char *path, sac_safetensors **out, sac_error *err)
{
    unsigned char prefix[8];
    uint64_t header_bytes = 0, file_bytes;
    struct stat about;
    char *header;
    sac_status st;

    if (fstat(fd, &about) != 0)
        return sac_fail(err, SAC_IO, "%s: %s", path, strerror(errno));
    file_bytes = (uint64_t)about.st_size;
    if (!S_ISREG(about.st_mode) || file_bytes < sizeof prefix)
        return sac_fail(err, SAC_MALFORMED, "no safetensors file: shorter than 8 bytes");
    st = read_bytes(fd, 0, prefix, sizeof prefix, path, err);
    if (st != SAC_OK)
        return st;
    for (int i = 7; i >= 0; i--)
        header_bytes = header_bytes << 8 | prefix[i];
    if (header_bytes > file_bytes - sizeof prefix)
        return sac_fail(err, SAC_MALFORMED, "a header of %llu bytes in a file of %llu",
                        (unsigned long long)header_bytes, (unsigned long long)file_bytes);
    if (header_bytes > SAC_SAFETENSORS_HEADER_MAX)
        return sac_fail(err, SAC_TOO_LARGE, "a header of %llu bytes: at most %zu",
                        (unsigned long long)header_bytes, SAC_SAFETENSORS_HEADER_MAX);
    header = malloc(header_bytes + 1);
    if (header == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a header of %llu bytes",
                        (unsigned long long)header_bytes);
    st = read_bytes(fd, sizeof prefix, header, header_bytes, path, err);
    if (st == SAC_OK)
        st = sac_safetensors_parse(header, header_bytes, file_bytes - sizeof prefix - header_bytes, out, err);
    free(header);
    if (st == SAC_OK)
        (*out)->data_at = sizeof prefix + header_bytes;
    return st;
}

sac_status sac_safetensors_open(const char *path, sac_safetensors **out, sac_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    sac_error inner = {0};
    sac_status st;

    *out = NULL;
    if (fd < 0)
        return sac_fail(err, errno == ENOENT ? SAC_NOT_FOUND : SAC_IO, "%s: %s", path, strerror(errno));
    st = load_header(fd, path, out, &inner);
    if (st != SAC_OK) {
        close(fd);
        return sac_fail(err, st, "%.200s: %.280s", path, inner.text);
    }
    assert(*out != NULL);
    (*out)->fd = fd;
    (*out)->path = strdup(path);
    if ((*out)->path == NULL) {
        sac_safetensors_close(*out);
        *out = NULL;
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a path");
    }
    return SAC_OK;
}

void sac_safetensors_close(sac_safetensors *file)
{
    if (file == NULL)
        return;
    for (size_t i = 0; i < file->count; i++)
        free(file->tensors[i].name);
    free(file->tensors);
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    free(file);
}

const sac_tensor *sac_safetensors_tensors(const sac_safetensors *file, size_t *count)
{
    *count = file->count;
    return file->tensors;
}

const sac_tensor *sac_safetensors_find(const sac_safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->tensors[i].name, name) == 0)
            return &file->tensors[i];
    return NULL;
}

/* ---- data ------------------------------------------------------------------------------------------- */

/* Widens count 16-bit elements at `from` to f32. */
static void widen(sac_tensor_type type, const unsigned char *from, size_t count, float *to)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t half;

        memcpy(&half, from + 2 * i, sizeof half);
        to[i] = type == SAC_TENSOR_F16 ? sac_f16_to_f32(half) : sac_bf16_to_f32(half);
    }
}

sac_status sac_safetensors_read(const sac_safetensors *file, const sac_tensor *tensor, float *out,
                                sac_error *err)
{
    size_t count = (size_t)tensor->count;
    unsigned char *raw;
    sac_status st;

    assert(file->fd >= 0);
    if (tensor->type == SAC_TENSOR_OTHER)
        return sac_fail(err, SAC_UNSUPPORTED, "%s: tensor %s is neither f32, f16 nor bf16", file->path,
                        tensor->name);
    /* 16-bit values are read into the second half of the output and widened in place: element i is written to
     * bytes 4i..4i+3 and read from 2 count + 2i, which no earlier write has reached. */
    raw = (unsigned char *)out + (count * 4 - (size_t)tensor->bytes);
    st = read_bytes(file->fd, file->data_at + tensor->begin, raw, (size_t)tensor->bytes, file->path, err);
    if (st != SAC_OK)
        return st;
    if (tensor->type != SAC_TENSOR_F32)
        widen(tensor->type, raw, count, out);
    for (size_t i = 0; i < count; i++)
        if (!isfinite(out[i]))
            return sac_fail(err, SAC_MALFORMED, "%s: tensor %s holds %s at element %zu", file->path,
                            tensor->name, isnan(out[i]) ? "a NaN" : "an infinity", i);
    return SAC_OK;
}
