/* output.h -- replies that wait for their reader: a list of chunks, small replies gathered into one. */
#ifndef SACCADE_SERVER_OUTPUT_H
#define SACCADE_SERVER_OUTPUT_H

#include "server/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct sac_output_chunk;

struct sac_output {
    struct sac_output_chunk *head, *tail;
    size_t bytes; /* of memory held, which is what a client can make us spend */
};

/* Takes the reply's bytes; *reply is empty afterwards. False: no memory, nothing changed. */
bool sac_output_add(struct sac_output *output, msgpack_sbuffer *reply);
/* Fills buffers with what is to be written first and returns how many. With `seal`, nothing will be added
 * to those chunks: they may be given to an asynchronous write. */
unsigned sac_output_gather(struct sac_output *output, uv_buf_t *buffers, unsigned max, bool seal);
/* The first n bytes have been written. */
void sac_output_consume(struct sac_output *output, size_t n);
void sac_output_free(struct sac_output *output);

#endif
