/* queue.h -- work that waits for a thread, earliest deadline first, in two lanes.
 *
 * Nodes live inside what they queue, so pushing cannot fail. A thread pops one node and may then take others
 * that go well with it: that is how a batch forms out of whatever waits, without waiting for more.
 */
#ifndef SACCADE_SERVER_QUEUE_H
#define SACCADE_SERVER_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sac_node { /* first member of what is queued */
    struct sac_node *next;
    uint64_t deadline_ns;
};

enum sac_lane { SAC_LANE_INTERACTIVE, SAC_LANE_BULK, SAC_LANE_COUNT };

struct sac_queue {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct sac_node *head[SAC_LANE_COUNT], *tail[SAC_LANE_COUNT];
    uint32_t turn;   /* every 16th pop prefers the bulk lane, so that it never starves */
    bool first_come; /* keep the order of arrival instead of the deadlines' */
    bool closed;
};

void sac_queue_init(struct sac_queue *queue, bool first_come);
void sac_queue_destroy(struct sac_queue *queue); /* nobody waits, nothing is queued */
void sac_queue_push(struct sac_queue *queue, struct sac_node *node, enum sac_lane lane);
/* Waits for a node; NULL once the queue is closed and empty. */
struct sac_node *sac_queue_pop(struct sac_queue *queue);
/* Pops end when what is queued is done. */
void sac_queue_close(struct sac_queue *queue);

enum sac_choice { SAC_CHOICE_TAKE, SAC_CHOICE_LEAVE, SAC_CHOICE_STOP };
/* Asks choose about every waiting node in order, under the lock, and unlinks those it takes; the list of
 * taken ones (through next) is returned in that order. */
struct sac_node *sac_queue_take(struct sac_queue *queue,
                                enum sac_choice (*choose)(void *context, struct sac_node *node),
                                void *context);

#endif
