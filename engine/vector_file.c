#include "engine/vector_file.h"

#include "kernels/half.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 20 };
/* Ground truth rows may be longer than vectors may be. */
#define ROW_MAX 65536u

enum component { FLOAT32, FLOAT16, FLOAT64, UINT8, INT8, INT32 };
static const uint32_t component_bytes[] = {4, 2, 8, 1, 1, 4};

enum layout { LAYOUT_VECS, LAYOUT_BIN, LAYOUT_NPY };

static const struct kind {
    const char *ending;
    enum layout layout;
    enum component component;
} kinds[] = {
    {".fvecs", LAYOUT_VECS, FLOAT32}, {".bvecs", LAYOUT_VECS, UINT8},   {".ivecs", LAYOUT_VECS, INT32},
    {".fbin", LAYOUT_BIN, FLOAT32},   {".f16bin", LAYOUT_BIN, FLOAT16}, {".u8bin", LAYOUT_BIN, UINT8},
    {".i8bin", LAYOUT_BIN, INT8},     {".ibin", LAYOUT_BIN, INT32},     {".npy", LAYOUT_NPY, FLOAT32},
};

struct sac_vector_file {
    int fd;
    char *path;
    enum component component;
    uint32_t prefix; /* bytes before each row: 4 in .?vecs, where they repeat the dimension */
    uint32_t dim;
    uint64_t count, next;
    uint64_t start;    /* offset of the first row, its prefix included */
    uint64_t row_size; /* bytes from row to row */
    uint8_t *buffer;   /* whole rows */
    size_t buffer_rows;
};

static const struct kind *kind_of(const char *path)
{
    size_t length = strlen(path);

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t size = strlen(kinds[i].ending);
        if (length > size && strcmp(path + length - size, kinds[i].ending) == 0)
            return &kinds[i];
    }
    return NULL;
}

bool sac_vector_file_known(const char *path)
{
    return kind_of(path) != NULL;
}

static uint64_t little(const uint8_t *bytes, unsigned size)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)bytes[i] << 8 * i;
    return value;
}

static sac_status read_at(const sac_vector_file *file, uint64_t offset, void *to, size_t size, sac_error *err)
{
    uint8_t *bytes = to;

    while (size > 0) {
        ssize_t got = pread(file->fd, bytes, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return sac_fail(err, SAC_IO, "%s: cannot read at byte %llu: %s", file->path,
                            (unsigned long long)offset, strerror(errno));
        if (got == 0)
            return sac_fail(err, SAC_MALFORMED,
                            "%s ends at byte %llu, in the middle of its data: copy it again", file->path,
                            (unsigned long long)offset);
        bytes += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return SAC_OK;
}

static sac_status check_dim(const sac_vector_file *file, uint64_t dim, sac_error *err)
{
    if (dim == 0 || dim > ROW_MAX)
        return sac_fail(err, dim == 0 ? SAC_MALFORMED : SAC_TOO_LARGE,
                        "%s: its header asks for vectors of %llu components, allowed are 1 to %u", file->path,
                        (unsigned long long)dim, ROW_MAX);
    return SAC_OK;
}

static sac_status open_vecs(sac_vector_file *file, uint64_t size, sac_error *err)
{
    uint8_t head[4];
    sac_status st;

    if (size == 0)
        return sac_fail(err, SAC_MALFORMED, "%s is empty", file->path);
    st = read_at(file, 0, head, sizeof head, err);
    if (st == SAC_OK)
        st = check_dim(file, little(head, 4), err);
    if (st != SAC_OK)
        return st;
    file->dim = (uint32_t)little(head, 4);
    file->prefix = 4;
    file->row_size = 4 + (uint64_t)file->dim * component_bytes[file->component];
    file->count = size / file->row_size;
    if (size % file->row_size != 0)
        return sac_fail(err, SAC_MALFORMED,
                        "%s: %llu bytes are not a whole number of rows of dimension %u (%llu bytes each)",
                        file->path, (unsigned long long)size, file->dim, (unsigned long long)file->row_size);
    return SAC_OK;
}

static sac_status open_bin(sac_vector_file *file, uint64_t size, sac_error *err)
{
    for (unsigned word = 4; word <= 8; word += 4) {
        uint8_t head[16];
        uint64_t rows, dim, row_size;

        if (size < 2 * word)
            break;
        sac_status st = read_at(file, 0, head, 2 * word, err);
        if (st != SAC_OK)
            return st;
        rows = little(head, word);
        dim = little(head + word, word);
        if (dim == 0 || dim > ROW_MAX)
            continue;
        row_size = dim * component_bytes[file->component];
        if ((size - 2 * word) % row_size != 0 || (size - 2 * word) / row_size != rows)
            continue;
        file->dim = (uint32_t)dim;
        file->count = rows;
        file->start = 2 * word;
        file->row_size = row_size;
        return SAC_OK;
    }
    return sac_fail(
        err, SAC_MALFORMED,
        "%s: the rows and dimension at its start do not agree with its size of %llu bytes: it is cut "
        "short, or not of this kind",
        file->path, (unsigned long long)size);
}

/* The text after "'key':" in the header's dictionary, past spaces; NULL where there is none. */
static const char *npy_value(const char *header, const char *key)
{
    const char *at = strstr(header, key);

    if (at == NULL)
        return NULL;
    at += strlen(key);
    at += strspn(at, " :");
    return at;
}

static bool npy_component(const char *descr, enum component *out)
{
    static const struct {
        const char *text;
        enum component component;
    } known[] = {{"'<f4'", FLOAT32}, {"'<f2'", FLOAT16}, {"'<f8'", FLOAT64},
                 {"'|u1'", UINT8},   {"'|i1'", INT8},    {"'<i4'", INT32}};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strncmp(descr, known[i].text, 5) == 0) {
            *out = known[i].component;
            return true;
        }
    return false;
}

/* "(rows, dim)" or "(dim,)". False for anything else. */
static bool npy_shape(const char *text, uint64_t *rows, uint64_t *dim)
{
    char *end;

    if (*text != '(' || text[1] < '0' || text[1] > '9')
        return false;
    *rows = 1;
    *dim = strtoull(text + 1, &end, 10);
    if (*end != ',')
        return false;
    end += 1 + strspn(end + 1, " ");
    if (*end >= '0' && *end <= '9') {
        *rows = *dim;
        *dim = strtoull(end, &end, 10);
        end += strspn(end, " ,");
    }
    return *end == ')';
}

static sac_status npy_parse(sac_vector_file *file, const char *header, uint64_t size, sac_error *err)
{
    const char *descr = npy_value(header, "'descr'");
    const char *order = npy_value(header, "'fortran_order'");
    const char *shape = npy_value(header, "'shape'");
    uint64_t rows, dim, data;
    sac_status st;

    if (descr == NULL || order == NULL || shape == NULL)
        return sac_fail(err, SAC_MALFORMED, "%s: the NumPy header lacks descr, fortran_order or shape",
                        file->path);
    if (!npy_component(descr, &file->component))
        return sac_fail(err, SAC_UNSUPPORTED,
                        "%s: components of type %.8s: save it as float32, float16 or float64 (little-endian)",
                        file->path, descr);
    if (strncmp(order, "False", 5) != 0)
        return sac_fail(err, SAC_UNSUPPORTED,
                        "%s is in Fortran order: save numpy.ascontiguousarray(x) instead", file->path);
    if (!npy_shape(shape, &rows, &dim))
        return sac_fail(err, SAC_UNSUPPORTED, "%s: an array of shape %.24s; wanted is (rows, dimension)",
                        file->path, shape);
    st = check_dim(file, dim, err);
    if (st != SAC_OK)
        return st;
    file->dim = (uint32_t)dim;
    file->count = rows;
    file->row_size = dim * component_bytes[file->component];
    assert(file->row_size > 0); /* check_dim() lets no empty row pass */
    data = size - file->start;
    if (data / file->row_size != rows || data % file->row_size != 0)
        return sac_fail(err, SAC_MALFORMED,
                        "%s: %llu rows of %u components need %llu bytes each, the file has %llu in all",
                        file->path, (unsigned long long)rows, file->dim, (unsigned long long)file->row_size,
                        (unsigned long long)data);
    return SAC_OK;
}

static sac_status open_npy(sac_vector_file *file, uint64_t size, sac_error *err)
{
    char header[4096];
    uint8_t head[12];
    uint64_t length;
    unsigned word;
    sac_status st;

    if (size < sizeof head)
        return sac_fail(err, SAC_MALFORMED, "%s is too short to be a NumPy file", file->path);
    st = read_at(file, 0, head, sizeof head, err);
    if (st != SAC_OK)
        return st;
    if (memcmp(head, "\x93NUMPY", 6) != 0 || head[6] < 1 || head[6] > 3)
        return sac_fail(err, SAC_MALFORMED, "%s does not start as a NumPy file of format 1 to 3 does",
                        file->path);
    word = head[6] == 1 ? 2 : 4;
    length = little(head + 8, word);
    file->start = 8 + word + length;
    if (length >= sizeof header || file->start > size)
        return sac_fail(err, SAC_MALFORMED, "%s: a NumPy header of %llu bytes does not fit", file->path,
                        (unsigned long long)length);
    st = read_at(file, 8 + word, header, length, err);
    if (st != SAC_OK)
        return st;
    header[length] = '\0';
    return npy_parse(file, header, size, err);
}

static sac_status open_kind(sac_vector_file *file, enum layout layout, sac_error *err)
{
    struct stat info;
    uint64_t size;
    sac_status st;

    if (fstat(file->fd, &info) != 0)
        return sac_fail(err, SAC_IO, "%s: %s", file->path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return sac_fail(err, SAC_INVALID_ARGUMENT, "%s is not a regular file", file->path);
    size = (uint64_t)info.st_size;
    st = layout == LAYOUT_VECS  ? open_vecs(file, size, err)
         : layout == LAYOUT_BIN ? open_bin(file, size, err)
                                : open_npy(file, size, err);
    if (st != SAC_OK)
        return st;
    assert(file->row_size > 0);
    file->buffer_rows = READ_BYTES / file->row_size + 1;
    file->buffer = malloc(file->buffer_rows * file->row_size);
    if (file->buffer == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "%s: no memory for a read buffer", file->path);
    return SAC_OK;
}

sac_status sac_vector_file_open(const char *path, sac_vector_file **out, sac_error *err)
{
    const struct kind *kind = kind_of(path);
    sac_vector_file *file;
    sac_status st;

    *out = NULL;
    if (kind == NULL)
        return sac_fail(
            err, SAC_UNSUPPORTED,
            "%s: not a vector file by its name; known are .fvecs .bvecs .ivecs .fbin .f16bin .u8bin "
            ".i8bin .ibin .npy",
            path);
    file = calloc(1, sizeof *file);
    if (file == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "%s: no memory to open it", path);
    file->component = kind->component;
    file->path = strdup(path);
    file->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (file->fd < 0)
        st = sac_fail(err, errno == ENOENT ? SAC_NOT_FOUND : SAC_IO, "cannot open %s: %s", path,
                      strerror(errno));
    else if (file->path == NULL)
        st = sac_fail(err, SAC_NO_MEMORY, "%s: no memory to open it", path);
    else
        st = open_kind(file, kind->layout, err);
    if (st != SAC_OK) {
        sac_vector_file_close(file);
        return st;
    }
    *out = file;
    return SAC_OK;
}

void sac_vector_file_close(sac_vector_file *file)
{
    if (file == NULL)
        return;
    if (file->fd >= 0)
        close(file->fd);
    free(file->buffer);
    free(file->path);
    free(file);
}

uint32_t sac_vector_file_dim(const sac_vector_file *file)
{
    return file->dim;
}

uint64_t sac_vector_file_count(const sac_vector_file *file)
{
    return file->count;
}

void sac_vector_file_seek(sac_vector_file *file, uint64_t row)
{
    file->next = row < file->count ? row : file->count;
}

static float component_at(enum component component, const uint8_t *row, uint32_t i)
{
    union {
        uint32_t u32;
        float f32;
        uint64_t u64;
        double f64;
    } bits;

    switch (component) {
    case FLOAT32:
        bits.u32 = (uint32_t)little(row + (size_t)i * 4, 4);
        return bits.f32;
    case FLOAT16:
        return sac_f16_to_f32((uint16_t)little(row + (size_t)i * 2, 2));
    case FLOAT64:
        bits.u64 = little(row + (size_t)i * 8, 8);
        return (float)bits.f64;
    case UINT8:
        return row[i];
    case INT8:
        return (float)(int8_t)row[i];
    default:
        return (float)(int32_t)little(row + (size_t)i * 4, 4);
    }
}

/* Brings the next whole rows, at most n of them, into the buffer and checks each row's own dimension. */
static sac_status fill(sac_vector_file *file, size_t n, size_t *rows, sac_error *err)
{
    uint64_t left = file->count - file->next;
    sac_status st;

    *rows = n < file->buffer_rows ? n : file->buffer_rows;
    if (*rows > left)
        *rows = (size_t)left;
    st = read_at(file, file->start + file->next * file->row_size, file->buffer, *rows * file->row_size, err);
    for (size_t i = 0; st == SAC_OK && file->prefix != 0 && i < *rows; i++)
        if (little(file->buffer + i * file->row_size, 4) != file->dim)
            st = sac_fail(err, SAC_MALFORMED, "%s: row %llu says its dimension is %d, the first says %u",
                          file->path, (unsigned long long)file->next + i,
                          (int)(uint32_t)little(file->buffer + i * file->row_size, 4), file->dim);
    if (st == SAC_OK)
        file->next += *rows;
    return st;
}

sac_status sac_vector_file_read(sac_vector_file *file, size_t n, float *vectors, size_t *got, sac_error *err)
{
    for (*got = 0; *got < n && file->next < file->count;) {
        size_t rows;
        sac_status st = fill(file, n - *got, &rows, err);
        if (st != SAC_OK)
            return st;
        for (size_t r = 0; r < rows; r++) {
            const uint8_t *row = file->buffer + r * file->row_size + file->prefix;
            float *to = vectors + (*got + r) * file->dim;
            for (uint32_t i = 0; i < file->dim; i++)
                to[i] = component_at(file->component, row, i);
        }
        *got += rows;
    }
    return SAC_OK;
}

sac_status sac_vector_file_read_int32(sac_vector_file *file, size_t n, int32_t *values, size_t *got,
                                      sac_error *err)
{
    *got = 0;
    if (file->component != INT32)
        return sac_fail(err, SAC_UNSUPPORTED,
                        "%s does not hold whole numbers of 32 bits: use .ivecs or .ibin", file->path);
    while (*got < n && file->next < file->count) {
        size_t rows;
        sac_status st = fill(file, n - *got, &rows, err);
        if (st != SAC_OK)
            return st;
        for (size_t r = 0; r < rows; r++) {
            const uint8_t *row = file->buffer + r * file->row_size + file->prefix;
            int32_t *to = values + (*got + r) * file->dim;
            for (uint32_t i = 0; i < file->dim; i++)
                to[i] = (int32_t)(uint32_t)little(row + (size_t)i * 4, 4);
        }
        *got += rows;
    }
    return SAC_OK;
}
