#include "server/queue.h"

#include <assert.h>
#include <string.h>

void sac_queue_init(struct sac_queue *queue, bool first_come)
{
    memset(queue, 0, sizeof *queue);
    queue->first_come = first_come;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->wake, NULL);
}

void sac_queue_destroy(struct sac_queue *queue)
{
    assert(queue->head[0] == NULL && queue->head[1] == NULL);
    pthread_cond_destroy(&queue->wake);
    pthread_mutex_destroy(&queue->lock);
}

/* Deadlines mostly rise with arrival, so that the end is nearly always the place. */
static void insert(struct sac_queue *queue, struct sac_node *node, enum sac_lane lane)
{
    struct sac_node **link = &queue->head[lane];
    struct sac_node *tail = queue->tail[lane];

    if (tail != NULL && (queue->first_come || tail->deadline_ns <= node->deadline_ns)) {
        link = &tail->next;
    } else {
        while (*link != NULL && (*link)->deadline_ns <= node->deadline_ns)
            link = &(*link)->next;
    }
    node->next = *link;
    *link = node;
    if (node->next == NULL)
        queue->tail[lane] = node;
}

void sac_queue_push(struct sac_queue *queue, struct sac_node *node, enum sac_lane lane)
{
    pthread_mutex_lock(&queue->lock);
    assert(!queue->closed);
    insert(queue, node, lane);
    pthread_cond_signal(&queue->wake);
    pthread_mutex_unlock(&queue->lock);
}

static struct sac_node *unlink_head(struct sac_queue *queue, enum sac_lane lane)
{
    struct sac_node *node = queue->head[lane];

    if (node == NULL)
        return NULL;
    queue->head[lane] = node->next;
    if (node->next == NULL)
        queue->tail[lane] = NULL;
    node->next = NULL;
    return node;
}

struct sac_node *sac_queue_pop(struct sac_queue *queue)
{
    struct sac_node *node;

    pthread_mutex_lock(&queue->lock);
    while (queue->head[0] == NULL && queue->head[1] == NULL && !queue->closed)
        pthread_cond_wait(&queue->wake, &queue->lock);
    enum sac_lane first = ++queue->turn % 16 == 0 ? SAC_LANE_BULK : SAC_LANE_INTERACTIVE;
    node = unlink_head(queue, first);
    if (node == NULL)
        node = unlink_head(queue, first == SAC_LANE_BULK ? SAC_LANE_INTERACTIVE : SAC_LANE_BULK);
    pthread_mutex_unlock(&queue->lock);
    return node;
}

void sac_queue_close(struct sac_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_cond_broadcast(&queue->wake);
    pthread_mutex_unlock(&queue->lock);
}

struct sac_node *sac_queue_take(struct sac_queue *queue,
                                enum sac_choice (*choose)(void *context, struct sac_node *node),
                                void *context)
{
    struct sac_node *taken = NULL, **end = &taken;
    enum sac_choice choice = SAC_CHOICE_LEAVE;

    pthread_mutex_lock(&queue->lock);
    for (int lane = 0; lane < SAC_LANE_COUNT && choice != SAC_CHOICE_STOP; lane++) {
        struct sac_node **link = &queue->head[lane], *last = NULL;
        while (*link != NULL && choice != SAC_CHOICE_STOP) {
            struct sac_node *node = *link;
            choice = choose(context, node);
            if (choice == SAC_CHOICE_TAKE) {
                *link = node->next;
                node->next = NULL;
                *end = node;
                end = &node->next;
                if (queue->tail[lane] == node)
                    queue->tail[lane] = last;
            } else {
                last = node;
                link = &node->next;
            }
        }
    }
    pthread_mutex_unlock(&queue->lock);
    return taken;
}
