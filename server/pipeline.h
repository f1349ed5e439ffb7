/* pipeline.h -- the stages between parsing and replying, their threads, and who is let in.
 *
 *     control                    list, count, get, create, opening collections ...: a few threads
 *     decode -> embed -> search  one picture at a time; batches of pictures; batches of queries
 *                     -> write   groups of puts and deletes, one transaction each
 *
 * Where encoder and collection share a GPU, a batch of pictures to search for is embedded and searched for in
 * one call of the embed stage, so that nothing but the answers comes to the host.
 *
 * No stage waits for a batch to fill: a free thread takes whatever waits. What limits latency is admission:
 * every stage keeps the predicted time of the work before it, from measured averages, and a request that
 * could not be on time is refused before its picture is decoded.
 */
#ifndef SACCADE_SERVER_PIPELINE_H
#define SACCADE_SERVER_PIPELINE_H

#include "server/request.h"

#include <pthread.h>

/* Embedding is cut into calls of about this long, so that a large put never holds up a search for more. */
#define SAC_EMBED_SLICE_NS 100000000u

struct sac_stage_threads {
    struct sac_queue queue;
    uint32_t count;
    pthread_t *threads;
    _Atomic uint64_t backlog_ns[SAC_LANE_COUNT]; /* predicted work that waits or runs */
};

struct sac_pipeline {
    struct sac_core *core;
    struct sac_stage_threads stages[SAC_STAGE_COUNT];
    struct sac_cost decode; /* of KiB of one picture */
    _Atomic uint64_t bytes; /* of requests in any stage but control */
    pthread_mutex_t picture_lock;
};

/* core->config and ->catalog are set. */
sac_status sac_pipeline_create(struct sac_core *core, struct sac_pipeline **out, sac_error *err);
/* Ends when everything that was submitted is done. NULL is allowed. */
void sac_pipeline_close(struct sac_pipeline *pipeline);

/* To a control thread, which runs request->work. */
void sac_pipeline_control(struct sac_request *request, sac_status (*work)(struct sac_request *, sac_error *));

/* Lets the request in or answers it OVERLOADED. With pictures it starts at decode, else at method->last. */
void sac_pipeline_submit(struct sac_request *request);
/* The request leaves: what it still counted in the backlog is taken off. */
void sac_pipeline_settle(struct sac_pipeline *pipeline, struct sac_request *request);

/* Most items of one transaction. */
#define SAC_WRITE_GROUP_ITEMS 1024u
/* As many pictures as a slice's time allows, by what the encoder took so far. */
size_t sac_embed_slice(const struct sac_server_config *config, struct sac_model *model);

/* ---- between the stages' own files ------------------------------------------------------------------ */

void sac_stage_push(struct sac_request *request, enum sac_stage stage);
/* The stage is done with the request: its predicted cost leaves the backlog. */
void sac_stage_leave(struct sac_request *request, enum sac_stage stage);
/* Takes from a popped list, linked through node.next, the requests that are over, and those that ready()
 * refuses: both are answered. Returns the others in their order. */
struct sac_request *sac_stage_keep(struct sac_pipeline *pipeline, enum sac_stage stage,
                                   struct sac_request *list,
                                   sac_status (*ready)(struct sac_request *request, sac_error *err));
/* Searches all n queries of a list, linked through node.next, whose requests agree in collection and `with`,
 * and answers them if that worked. pictures: [n], prepared by the model that they agree in; NULL: queries
 * have vectors. */
sac_status sac_search_list(struct sac_request *list, sac_prepared *const *pictures, size_t n, sac_error *err);
/* One pass of a thread of the stage over a node it popped. */
void sac_decode_run(struct sac_pipeline *pipeline, struct sac_node *node);
void sac_embed_run(struct sac_pipeline *pipeline, struct sac_node *node);
void sac_search_run(struct sac_pipeline *pipeline, struct sac_node *node);
void sac_write_run(struct sac_pipeline *pipeline, struct sac_node *node);

#endif
