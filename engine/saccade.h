/* saccade.h -- the public C API of libsaccade: from picture bytes to ranked ids.
 *
 * Handles are opaque and made by *_open / *_create functions; whoever receives one through an `out`
 * parameter owns it and ends it with the matching close. On failure `*out` is NULL, a sac_status says
 * which kind of failure it was, and `err` (NULL allowed) says what was wrong and what to do.
 * Nothing here prints, exits, or keeps global state. Unless a comment says otherwise, every function
 * on a shared handle may be called from any thread at any time.
 *
 *   device      where work runs (device.h)
 *   image       JPEG, PNG, WebP bytes -> upright RGB pixels
 *   encoder     pixels -> an embedding, by a vision transformer or the built-in descriptor
 *   index       vectors + labels in memory: train, add, delete, search (Flat, IVF-PQ)
 *   tune        which index, and how to ask it, for a recall or a latency
 *   collection  a durable store of items with an index derived from it
 *   database    a directory of collections
 *   ingest      a folder of pictures -> a collection: parallel, resumable
 */
#ifndef SACCADE_H
#define SACCADE_H

#include "device.h"
#include "status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define SAC_VERSION "0.1.0"
const char *sac_version(void); /* of the library in use, which may differ from the header's */

#define SAC_DIM_MAX 4096u            /* components of a vector */
#define SAC_K_MAX 1000u              /* results of one search */
#define SAC_DEPTH_MAX 4096u          /* candidates that one search re-ranks */
#define SAC_ID_TEXT_MAX 256u         /* bytes of a text id */
#define SAC_ATTRIBUTES_MAX 64u       /* attributes of an item */
#define SAC_ATTRIBUTE_NAME_MAX 64u   /* bytes */
#define SAC_ATTRIBUTE_TEXT_MAX 4096u /* bytes of a text value, and of a source path */
#define SAC_NAME_MAX 64u /* bytes of a collection's name: [A-Za-z0-9_-], first a letter or digit */

typedef enum sac_metric {
    SAC_METRIC_L2,     /* squared Euclidean distance */
    SAC_METRIC_IP,     /* inner product */
    SAC_METRIC_COSINE, /* vectors are scaled to length 1 on the way in; zero vectors are refused */
} sac_metric;

/* "l2", "ip", "cosine"; also accepts "euclidean", "inner_product", "angular". */
sac_status sac_metric_parse(const char *text, sac_metric *out, sac_error *err);
const char *sac_metric_name(sac_metric metric);

/* Where a long job stands. A job calls back at most a few times a second, from one thread at a time;
 * returning false cancels the job, which then returns SAC_CANCELLED with what is done kept. */
typedef struct sac_progress {
    const char *stage; /* "scan", "embed", "train", "add", "measure", ...: static storage */
    uint64_t done, total;
    uint64_t failed;     /* of done: items put on the error list */
    double seconds;      /* since the stage began */
    double seconds_left; /* estimate; negative while unknown */
} sac_progress;
typedef bool (*sac_progress_fn)(void *context, const sac_progress *progress);

/* ---- image ------------------------------------------------------------------------------------------ */

/* Limits checked before memory is taken, and while decoding (see docs in engine/image.h). */
typedef struct sac_image_limits {
    size_t bytes;                /* of the file: 10 MiB */
    uint32_t side_min, side_max; /* 16, 16384 */
    uint64_t pixels;             /* 40e6 */
    uint64_t pixels_progressive; /* 24e6 */
    uint64_t scan_blocks;        /* scans x 8x8 blocks: 2e7 */
    size_t decoder_bytes;        /* decoder's own working memory: 192 MiB */
    uint32_t milliseconds;       /* wall time of one decode: 500 */
} sac_image_limits;
void sac_image_limits_init(sac_image_limits *limits);

/* Upright 8-bit RGB: EXIF orientation applied, grey and CMYK converted, alpha over white. */
typedef struct sac_image {
    uint32_t width, height;
    uint8_t *rgb; /* [height][width][3], owned by the image */
} sac_image;

/* Decodes a picture of any supported format (told by its first bytes). limits may be NULL: defaults.
 * Errors: SAC_IMAGE_REJECTED (over a limit, unsupported kind), SAC_IMAGE_CORRUPT (damaged or cut short),
 * SAC_NO_MEMORY. */
sac_status sac_image_decode(const void *bytes, size_t size, const sac_image_limits *limits, sac_image **out,
                            sac_error *err);
void sac_image_free(sac_image *image); /* NULL is allowed */

/* Formats built in, for people: "jpeg png webp". Static storage. */
const char *sac_image_formats(void);

/* A rectangle of the upright picture, in pixels; w == 0 means the whole picture. It is cut to the picture;
 * what is left must be at least 1x1. */
typedef struct sac_crop {
    uint32_t x, y, w, h;
} sac_crop;

/* ---- encoder ---------------------------------------------------------------------------------------- */

typedef struct sac_encoder sac_encoder;

#define SAC_PASS_MAX 1024u /* pictures of one pass */

typedef struct sac_encoder_options {
    const char *precision; /* "f32", "bf16", or "auto": bf16 where the device has instructions for it */
    uint32_t batch_max;    /* pictures that one pass takes at most; larger calls are cut, and a pass takes
                              fewer where caches (CPU) or the budget (GPU) hold no more. 256 */
    sac_image_limits limits;
} sac_encoder_options;
void sac_encoder_options_init(sac_encoder_options *options);

/* model: a folder in the Hugging Face layout (config.json + model.safetensors), or "builtin" (also NULL):
 * the classical descriptor that needs no weights. The device stays borrowed until the encoder is closed.
 * Errors: SAC_INVALID_ARGUMENT (options), SAC_NOT_FOUND, SAC_MALFORMED (header, names, shapes),
 * SAC_UNSUPPORTED (model family). */
sac_status sac_encoder_open(sac_device *device, const char *model, const sac_encoder_options *options,
                            sac_encoder **out, sac_error *err);
void sac_encoder_close(sac_encoder *encoder); /* NULL is allowed */

/* What an encoder will take of a GPU, before there is one. The built-in descriptor takes nothing. */
typedef struct sac_encoder_needs {
    char name[128];
    uint32_t dim;
    uint32_t pass;          /* pictures of one pass: batch_max, or what the memory allows */
    uint64_t bytes_weights; /* the device's memory */
    uint64_t bytes_pass;    /* for each pass in flight, of which one caller has two: activations and pixels */
    uint64_t bytes_scratch; /* and what its operations take at most */
    uint64_t bytes_host;    /* page-locked memory of the host for pictures, at most */
} sac_encoder_needs;
/* memory: bytes of the GPU that there are to use, as sac_device_memory says. options may be NULL; precision
 * "auto" counts as bf16, which every GPU that saccade runs on has. Only headers of the model's files are
 * read. Errors: as sac_encoder_open(). */
sac_status sac_encoder_plan(const char *model, const sac_encoder_options *options, uint64_t memory,
                            sac_encoder_needs *out, sac_error *err);

uint32_t sac_encoder_dim(const sac_encoder *encoder);
const char *sac_encoder_name(const sac_encoder *encoder); /* "builtin-1", "vit_tiny_patch16_224" */
/* 64 hex digits: SHA-256 over the weights, the preprocessing and the way results are scaled. Two encoders
 * with the same fingerprint give the same embeddings (precision apart); vectors of different ones never
 * meet in one collection. */
const char *sac_encoder_fingerprint(const sac_encoder *encoder);
/* Bytes of a picture of the encoder's input size: width * height * 3. A prepared one takes about so much; on
 * a GPU it may take more, out of a pool that is bounded. */
size_t sac_encoder_pixel_bytes(const sac_encoder *encoder);

typedef struct sac_prepared sac_prepared; /* a picture, decoded and upright and cut, ready for one encoder */

/* The first half, for a pool of decode threads: bytes -> upright -> crop, and on the CPU to the encoder's
 * input size. crop may be NULL. *out is the caller's, to be freed before the encoder is closed. Errors as
 * sac_image_decode, and SAC_INVALID_ARGUMENT for a crop outside the picture. */
sac_status sac_encoder_prepare(sac_encoder *encoder, const void *bytes, size_t size, const sac_crop *crop,
                               sac_prepared **out, sac_error *err);
/* The same from pixels that the caller holds. */
sac_status sac_encoder_prepare_image(sac_encoder *encoder, const sac_image *image, const sac_crop *crop,
                                     sac_prepared **out, sac_error *err);
void sac_prepared_free(sac_prepared *prepared); /* NULL is allowed */
/* The second half, in batches: n pictures that this encoder has prepared -> vectors [n][dim], each of length
 * 1. A picture's vector does not depend on the others of its batch. */
sac_status sac_encoder_embed(sac_encoder *encoder, size_t n, sac_prepared *const *pictures, float *vectors,
                             sac_error *err);

/* ---- index ------------------------------------------------------------------------------------------ */

typedef struct sac_index sac_index; /* any number of searchers beside one writer; writers take turns */

typedef struct sac_index_params {
    uint32_t dim;
    sac_metric metric;
    /* In the manner of FAISS's index factory:
     *   "Flat"                      exact search
     *   "IVF4096,PQ32"              nlist 4096, 32 sub-quantizers of 8 bits, re-ranked against f32 vectors
     *   "OPQ32,IVF4096,PQ32x4"      with a learnt rotation; 4 to 8 bits
     *   "IVF4096,RaBitQ"            signs after a random rotation, for long vectors: a bit a component; on
     * CPUs
     *   "...,RFlat"                 the same as no suffix
     *   "...,Refine(SQfp16)"        re-ranks against f16 vectors: half the memory
     *   "...,Refine(SQ8)"           against bytes with a scale for each vector: a quarter
     *   "auto"                      chosen at training from count and dimension */
    const char *spec;
    uint64_t seed; /* of training: the same seed, data and device give the same index */
} sac_index_params;
void sac_index_params_init(sac_index_params *params); /* dim 0, cosine, "auto", 1 */

sac_status sac_index_create(sac_device *device, const sac_index_params *params, sac_index **out,
                            sac_error *err);
void sac_index_close(sac_index *index); /* NULL is allowed */

/* Learns centroids and codebooks from n rows (a sample is drawn when there are more than needed). expected:
 * the count the index will hold, for "auto" (0: n). Flat needs no training. SAC_INVALID_ARGUMENT when
 * there are fewer rows than the spec needs. An index that holds vectors cannot be trained again. */
sac_status sac_index_train(sac_index *index, size_t n, const float *vectors, size_t expected,
                           sac_progress_fn progress, void *context, sac_error *err);
bool sac_index_trained(const sac_index *index);

/* Adds n vectors under n distinct labels that the index does not hold (SAC_ALREADY_EXISTS; nothing is
 * added then). Vectors must be finite. */
sac_status sac_index_add(sac_index *index, size_t n, const float *vectors, const uint64_t *labels,
                         sac_progress_fn progress, void *context, sac_error *err);
/* Removes those labels that are there; *removed (NULL allowed) tells how many. Memory is reused. */
sac_status sac_index_delete(sac_index *index, size_t n, const uint64_t *labels, size_t *removed,
                            sac_error *err);
/* The vector as it is held for re-ranking (length 1 for cosine). SAC_NOT_FOUND. */
sac_status sac_index_reconstruct(const sac_index *index, uint64_t label, float *vector, sac_error *err);
bool sac_index_contains(const sac_index *index, uint64_t label);

/* Measures, on vectors the index holds, which (nprobe, reach, depth) gives which recall@10, and keeps the
 * curve: from then on a search may ask for recall. Flat has no curve: its recall is 1. */
sac_status sac_index_measure(sac_index *index, sac_progress_fn progress, void *context, sac_error *err);

typedef struct sac_recall_point {
    float recall; /* recall@10 that was measured, less what so few queries may be wrong by */
    uint32_t nprobe, depth;
    /* Easy queries stop early: list p from 0, nearest first, is probed while sqrt(d_p / d_0) * (p + 1)^0.1 is
     * at most this, d being the squared distance from its centroid; nprobe is the most. 0: always nprobe. */
    float reach;
} sac_recall_point;
/* Copies up to capacity points, ascending in recall; returns how many there are. */
size_t sac_index_recall_curve(const sac_index *index, sac_recall_point *points, size_t capacity);

typedef struct sac_hit {
    uint64_t label;
    float distance; /* smaller is nearer: squared L2; negated inner product; 1 - cosine */
    float score;    /* larger is nearer: negated squared L2; inner product; cosine */
} sac_hit;

/* One query. Every query of a batch has its own settings and gets what it would get alone. */
typedef struct sac_query {
    const float *vector;   /* [dim] */
    uint32_t k;            /* 1..SAC_K_MAX */
    float recall;          /* 0, or the recall@10 wanted, up to 1: picks nprobe and depth from the curve */
    uint32_t nprobe;       /* 0: from recall, or from the default recall of 0.95 */
    uint32_t depth;        /* candidates re-ranked; 0: from the curve; at least k */
    bool exact;            /* compare with every vector */
    bool no_rescore;       /* answer with the distances of the codes */
    float score_threshold; /* hits below it are left out; -INFINITY: none */
    /* Labels that may be found, in any order; NULL: all. k hits come back whenever k of these are held. Up to
     * SAC_DEPTH_MAX of them are compared one by one; more are looked up once for all queries of a batch that
     * give the same array, and let through as lists are read. Of an index's search only. */
    const uint64_t *allow; /* [allow_count] */
    size_t allow_count;
    sac_hit *hits;      /* [k], the caller's; ascending (distance, label) */
    uint32_t hit_count; /* out: fewer than k only when fewer match */
} sac_query;
void sac_query_init(sac_query *query); /* k 10, defaults elsewhere, hits NULL */

sac_status sac_index_search(const sac_index *index, sac_query *queries, size_t n, sac_error *err);

typedef struct sac_index_info {
    uint32_t dim;
    sac_metric metric;
    char spec[64]; /* what "auto" chose, once trained */
    uint64_t count;
    bool trained, measured;
    uint32_t nlist, m, nbits;    /* of RaBitQ m is dim / 4, rounded up, and nbits 4: the signs of four */
    double list_imbalance;       /* n * sum(size^2) / (sum size)^2 over lists: 1 is even */
    uint64_t bytes_codes;        /* list pages: codes, norms, slots */
    uint64_t bytes_vectors;      /* vectors for re-ranking or exact search */
    uint64_t bytes_other;        /* labels, maps, centroids, codebooks */
    uint64_t bytes_vectors_host; /* of bytes_vectors: in host memory, because the device is full */
} sac_index_info;
void sac_index_describe(const sac_index *index, sac_index_info *out);

/* What an index of `count` vectors will need, before there is one. Real lists and labels differ by a few per
 * cent: pages are half full at the end of a list on the average, tables grow by steps. */
typedef struct sac_plan {
    char spec[64]; /* what "auto" would choose */
    uint32_t nlist, m, nbits;
    uint64_t bytes_codes; /* the device's memory: list pages */
    uint64_t
        bytes_vectors; /* for re-ranking or exact search; on a GPU what does not fit stays in host memory */
    uint64_t bytes_other;    /* centroids, codebooks, directories */
    uint64_t bytes_search;   /* one search of `batch` queries, while it runs */
    uint64_t bytes_training; /* while it is trained */
    uint64_t bytes_host;     /* the host's memory: labels, positions */
} sac_plan;
/* Errors: SAC_INVALID_ARGUMENT (spec, dimension), SAC_TOO_LARGE. */
sac_status sac_index_plan(const sac_index_params *params, uint64_t count, uint32_t batch, sac_plan *out,
                          sac_error *err);

/* Writes a checkpoint of the whole index, or of everything but the vectors for re-ranking (with_vectors
 * false: whoever loads it brings the vectors back by label, as a collection does). Written beside the
 * target, synced, then renamed over it. */
sac_status sac_index_save(const sac_index *index, const char *path, bool with_vectors, sac_error *err);

/* Gives the vector of a label while a checkpoint without vectors is loaded; false when it is gone. */
typedef bool (*sac_vector_fn)(void *context, uint64_t label, float *vector);
/* Errors: SAC_NOT_FOUND, SAC_CORRUPT (checksum, length), SAC_VERSION_MISMATCH (a newer format). */
sac_status sac_index_load(sac_device *device, const char *path, sac_vector_fn vectors, void *context,
                          sac_index **out, sac_error *err);

/* Calls fn with every label, in no order, until it returns false. */
void sac_index_each_label(const sac_index *index, bool (*fn)(void *context, uint64_t label), void *context);

/* ---- tune ------------------------------------------------------------------------------------------- */

/* What is wanted of an index, and vectors to find out with. */
typedef struct sac_tune_params {
    uint32_t dim;
    sac_metric metric;
    uint32_t k;           /* neighbours that recall counts: 1..SAC_K_MAX */
    size_t n;             /* vectors: all of them, or an even sample; 100 at least */
    const float *vectors; /* [n][dim], the caller's */
    uint64_t count;       /* that the index will hold, at least n; 0: n */
    size_t query_count;   /* queries as users ask them; 2000 of more are drawn */
    const float *queries; /* [query_count][dim], the caller's; NULL: some vectors are held back and ask */
    float recall;         /* share of the true k neighbours to reach, up to 1; 0: as much as can be had */
    double latency;       /* seconds that 99 of 100 queries may take, each alone; 0: as few as can be had */
    uint64_t memory;      /* bytes that the whole index may take; 0: any */
    double seconds;       /* that tuning may take, about: what was begun ends */
    uint64_t seed;        /* of samples and training */
} sac_tune_params;
void sac_tune_params_init(
    sac_tune_params *params); /* cosine, k 10, recall 0.95, 120 seconds, seed 1; else 0 */

/* An index that was tried, with the setting that suits the goal best, and what to expect of it at full count.
 * Times are those of the device that tuned: each query's least of a few rounds, one query at a time. */
typedef struct sac_tuned {
    char spec[64];   /* for sac_index_params */
    uint32_t nprobe; /* how to ask: these two (0: no lists), */
    uint32_t depth;
    float ask;    /* or this as sac_query.recall, once measured, which is the cheaper; 0: it is not */
    float recall; /* recall@k, and its standard error */
    float recall_error;
    bool reaches;        /* what was asked for, as far as the error lets it be told */
    bool verified;       /* by a second look: finer steps, and queries that did not choose the setting */
    bool extrapolated;   /* fewer vectors than `count` stood for all */
    uint64_t rows;       /* vectors it was tried with */
    double seconds_mean; /* of a query */
    double seconds_p50;
    double seconds_p99;
    double batch_rate;    /* queries a second in batches of 1000; 0: not measured */
    uint64_t bytes;       /* memory, as sac_index_plan() computes it */
    double build_seconds; /* training and adding */
} sac_tuned;

typedef struct sac_tuning {
    const sac_tuned *at; /* [count], the best first; at[0] is the choice */
    size_t count;
    bool out_of_time;     /* more would have been tried */
    bool held_back;       /* the queries were vectors held back */
    uint32_t query_count; /* that were asked */
    double seconds;       /* that tuning took */
} sac_tuning;

/* Finds the index that answers fastest with the recall that is wanted, or has the best recall within the
 * latency (with both: the fastest that keeps both), by building some over samples and the best over as much
 * as there is time for. Exact search is always among them. Where nothing reaches the goal, at[0].reaches is
 * false and at[0] is what came nearest. *out is the caller's. Errors: SAC_INVALID_ARGUMENT (too few vectors,
 * a vector that an index would refuse, no index fits the memory), SAC_CANCELLED (*out is NULL),
 * SAC_NO_MEMORY. */
sac_status sac_tune(sac_device *device, const sac_tune_params *params, sac_progress_fn progress,
                    void *context, sac_tuning **out, sac_error *err);
void sac_tuning_free(sac_tuning *tuning); /* NULL is allowed */

/* ---- items ------------------------------------------------------------------------------------------ */

/* An id is a number up to 2^63-1, or text of 1..SAC_ID_TEXT_MAX bytes. Numbers order before texts. */
typedef struct sac_id {
    uint64_t number;
    const char *text; /* NULL: the id is the number. Not NUL-terminated. */
    size_t text_size;
} sac_id;

typedef enum sac_attribute_kind {
    SAC_ATTRIBUTE_INT,
    SAC_ATTRIBUTE_FLOAT,
    SAC_ATTRIBUTE_TEXT
} sac_attribute_kind;

typedef struct sac_attribute {
    const char *name; /* not NUL-terminated */
    size_t name_size;
    sac_attribute_kind kind;
    int64_t integer;
    double number;
    const char *text; /* not NUL-terminated */
    size_t text_size;
} sac_attribute;

typedef struct sac_item {
    sac_id id;
    const float *vector; /* [dim], as the user gave it */
    const sac_attribute *attributes;
    size_t attribute_count;
    const char *source; /* where the picture came from; NULL or not NUL-terminated */
    size_t source_size;
} sac_item;

/* ---- collection and database ---------------------------------------------------------------------- */

typedef struct sac_database sac_database;
typedef struct sac_collection sac_collection;

typedef enum sac_open_mode {
    /* Beside other readers and beside a writer. Searches find what was committed when the collection was
     * opened, less what was replaced or deleted since; get, each and count see every commit. */
    SAC_OPEN_READ,
    SAC_OPEN_WRITE,  /* the one writer of the directory: SAC_BUSY where another process is */
    SAC_OPEN_CREATE, /* the same, and the directory is made if it is not there */
    /* The same, for a program that takes in and builds: a collection of which no checkpoint was saved gets no
     * index, and its vectors no memory, until it is built or searched. */
    SAC_OPEN_FILL,
} sac_open_mode;

/* Opens a directory of collections. Every collection that is there is opened when it is first asked for, and
 * stays open until the database is closed. One process opens a directory once, in whatever mode (SAC_BUSY),
 * and a child after a fork does not use its parent's handle. Errors: SAC_NOT_FOUND, SAC_BUSY,
 * SAC_INVALID_ARGUMENT (CREATE in a folder that holds other things), SAC_VERSION_MISMATCH, SAC_IO. */
sac_status sac_database_open(sac_device *device, const char *path, sac_open_mode mode, sac_database **out,
                             sac_error *err);
/* After every collection is released; NULL is allowed. A writer saves the checkpoints of built indexes that
 * more than a thousand changes came after, so that the next opening is quick. */
void sac_database_close(sac_database *database);

typedef struct sac_collection_params {
    uint32_t dim;
    sac_metric metric;
    const char *spec;        /* as in sac_index_params; "auto" */
    const char *model;       /* where the encoder's weights are, "builtin", or "" for vectors only */
    const char *fingerprint; /* of the encoder, or "" for vectors only */
} sac_collection_params;
void sac_collection_params_init(sac_collection_params *params);

/* Makes a collection, or succeeds without doing anything where the same one is there already.
 * SAC_ALREADY_EXISTS: one with other parameters is. */
sac_status sac_database_create(sac_database *database, const char *name, const sac_collection_params *params,
                               sac_error *err);
/* Removes a collection and its files. Users who still hold it may finish; new calls get SAC_NOT_FOUND. */
sac_status sac_database_drop(sac_database *database, const char *name, sac_error *err);
/* Names in byte order. *names is one block, freed with free(). */
sac_status sac_database_list(sac_database *database, char ***names, size_t *count, sac_error *err);

/* Opens (loads) a collection or returns the open one. Each acquire is paired with a release. */
sac_status sac_collection_acquire(sac_database *database, const char *name, sac_collection **out,
                                  sac_error *err);
void sac_collection_release(sac_collection *collection); /* NULL is allowed */

/* Checks what sac_collection_put would refuse, so that one bad item need not spoil a group. */
sac_status sac_collection_check(const sac_collection *collection, const sac_item *item, sac_error *err);
/* Inserts or replaces n items in one transaction: when it returns SAC_OK they are on disk, synced, and the
 * very next search finds them; otherwise none of them is. Ids within one call must be distinct.
 * Errors: SAC_INVALID_ARGUMENT, SAC_READ_ONLY (disk full or failing; outcome not applied). */
sac_status sac_collection_put(sac_collection *collection, const sac_item *items, size_t n, sac_error *err);
/* Deletes those ids that are there, with the same promise. */
sac_status sac_collection_delete(sac_collection *collection, const sac_id *ids, size_t n, size_t *removed,
                                 sac_error *err);
uint64_t sac_collection_count(const sac_collection *collection);

typedef struct sac_record sac_record; /* a copy of one item: the caller's, and safe to keep */
sac_status sac_collection_get(const sac_collection *collection, sac_id id, sac_record **out, sac_error *err);
const sac_item *sac_record_item(const sac_record *record);
void sac_record_free(sac_record *record); /* NULL is allowed */

/* Calls fn with items in id order, after `after` (NULL: from the start), until it returns false. The item
 * is valid during the call; its vector is NULL unless with_vectors. */
sac_status sac_collection_each(const sac_collection *collection, const sac_id *after, bool with_vectors,
                               bool (*fn)(void *context, const sac_item *item), void *context,
                               sac_error *err);

/* What a collection was created with. Strings live as long as the collection is held. */
void sac_collection_describe(const sac_collection *collection, sac_collection_params *out);

typedef struct sac_collection_info {
    uint64_t count;
    uint64_t bytes_store;    /* of the LMDB file in use */
    bool read_only;          /* a write failed for good; reopen once the disk is well */
    bool checkpoint_refused; /* at opening it was damaged or of another version, and the index was derived
                                from the store: searches compare with everything until the next build */
    sac_index_info index;
} sac_collection_info;
void sac_collection_stats(const sac_collection *collection, sac_collection_info *out);
/* The curve of the index in force, as sac_index_recall_curve(). */
size_t sac_collection_recall_curve(const sac_collection *collection, sac_recall_point *points,
                                   size_t capacity);

/* What a hit carries beside its id. */
enum { SAC_WITH_ATTRIBUTES = 1, SAC_WITH_VECTOR = 2, SAC_WITH_SOURCE = 4 };

typedef struct sac_found {
    sac_id id;
    float distance, score; /* as in sac_hit */
    const sac_item *item;  /* parts named in `with`; NULL when with is 0 */
} sac_found;

typedef struct sac_results sac_results; /* owns everything it shows */

/* Searches n queries (their `hits` fields are not used). with: SAC_WITH_* flags, for all of them. An item
 * that is deleted while the search runs is left out. Errors: SAC_INVALID_ARGUMENT (dimension, NaN, k). */
sac_status sac_collection_search(const sac_collection *collection, const sac_query *queries, size_t n,
                                 unsigned with, sac_results **out, sac_error *err);
/* The same for n pictures that this encoder has prepared; queries[i].vector is not read. Where the two share
 * a GPU, the embeddings stay in its memory and the host waits once, for the answers; elsewhere this is
 * sac_encoder_embed() and a search. Errors besides: SAC_VERSION_MISMATCH (another encoder than the
 * collection's), and those of sac_encoder_embed(). */
sac_status sac_collection_search_pictures(const sac_collection *collection, sac_encoder *encoder,
                                          sac_prepared *const *pictures, const sac_query *queries, size_t n,
                                          unsigned with, sac_results **out, sac_error *err);
/* Whether embeddings of this encoder lie where the collection's index reads them, on a GPU. */
bool sac_collection_shares_device(const sac_collection *collection, const sac_encoder *encoder);
const sac_found *sac_results_get(const sac_results *results, size_t query, size_t *count);
void sac_results_free(sac_results *results); /* NULL is allowed */

/* Trains an index for everything stored (spec NULL: the collection's), fills it beside the live one, swaps it
 * in and saves the checkpoint. Searches go on meanwhile; writes wait for the swap. */
sac_status sac_collection_build(sac_collection *collection, const char *spec, sac_progress_fn progress,
                                void *context, sac_error *err);
/* Saves the index checkpoint, so that the next opening need not derive it again. */
sac_status sac_collection_checkpoint(sac_collection *collection, sac_error *err);

/* ---- ingest ----------------------------------------------------------------------------------------- */

typedef struct sac_ingest_params {
    /* Folders are walked, files taken as they are; ids are the paths as text (absolute). */
    const char *const *paths;
    size_t path_count;
    uint32_t decode_threads; /* 0: as many as the device has */
    const char *error_list;  /* file that gets a line per failed picture: path, TAB, reason. NULL: none */
} sac_ingest_params;

typedef struct sac_ingest_result {
    uint64_t found;   /* pictures seen */
    uint64_t stored;  /* embedded and put by this run */
    uint64_t skipped; /* there already, with the same size and modification time */
    uint64_t failed;
    double seconds;
    uint32_t decode_threads;
    double decode_busy,
        encoder_busy; /* while pictures were embedded: share of the threads' time that went into
                         reading and decoding, and of the time that the encoder had work */
} sac_ingest_result;

/* Embeds pictures into a collection: decode threads feed the encoder, whole batches are committed at once,
 * what is there already is skipped, so a killed run resumes. One bad picture stops nothing. The encoder's
 * fingerprint must be the collection's (SAC_VERSION_MISMATCH). */
sac_status sac_ingest(sac_collection *collection, sac_encoder *encoder, const sac_ingest_params *params,
                      sac_progress_fn progress, void *context, sac_ingest_result *result, sac_error *err);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
