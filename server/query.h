/* query.h -- what `saccade query` was asked, answered from this machine's files or by a server. */
#ifndef SACCADE_SERVER_QUERY_H
#define SACCADE_SERVER_QUERY_H

#include "server/answer.h"
#include "server/local.h"

struct sac_ask {
    struct sac_local local;
    const char *connect; /* NULL: local */
    uint32_t timeout_ms; /* of one request to a server */
    char **images;
    size_t image_count;
    struct sac_texts ids, vectors; /* vectors: FILE or FILE:ROW */
    uint32_t k, nprobe, depth;     /* nprobe, depth 0: by recall */
    float recall;                  /* 0: the default */
    float threshold;               /* -INFINITY: none */
    bool exact;
    const sac_crop *crop; /* NULL: whole pictures */
    struct sac_answer_style style;
};

enum { SAC_ASK_BATCH = 256 }; /* vectors searched in one call */

/* Both answer everything they can on stdout and explain on stderr what they cannot. SAC_OK when all was
 * answered; otherwise the last failure, which has been explained already where err->text is empty. */
sac_status sac_query_local(struct sac_ask *ask, sac_error *err);
sac_status sac_query_remote(const struct sac_ask *ask, sac_error *err);

/* "7" is the number 7; anything that is not all digits, or too large a number, is a text. */
sac_id sac_ask_id(const char *text);

/* Calls fn with the rows of FILE, or the one of FILE:ROW, a batch at a time; first is the row's number. */
typedef sac_status (*sac_rows_fn)(void *context, const char *path, uint64_t first, size_t n, uint32_t dim,
                                  const float *vectors);
sac_status sac_ask_each_rows(const char *file, sac_rows_fn fn, void *context, sac_error *err);

/* Says on stderr why one of several queries has no answer. */
void sac_ask_complain(const sac_error *error);

#endif
