#include "engine/picture_pool.h"

#include <string.h>

/* Four classes an octave from 64 KiB on: an eighth of a block is unused on the average. */
static size_t class_bytes(uint32_t class)
{
    return (size_t)(4 + class % 4) << (14 + class / 4);
}

static uint32_t class_of(size_t bytes)
{
    uint32_t class = 0;

    while (class < SAC_PICTURE_CLASSES && class_bytes(class) < bytes)
        class ++;
    return class;
}

void sac_picture_pool_init(sac_picture_pool *pool, sac_device *device, size_t bytes_max)
{
    *pool = (sac_picture_pool){.device = device, .bytes_max = bytes_max};
    pthread_mutex_init(&pool->lock, NULL);
}

static void *pop(void **list)
{
    void *block = *list;

    if (block != NULL)
        memcpy(list, block, sizeof *list);
    return block;
}

static void push(void **list, void *block)
{
    memcpy(block, list, sizeof *list);
    *list = block;
}

static void free_all(sac_device *device, void *list)
{
    while (list != NULL)
        sac_host_free(device, pop(&list));
}

void sac_picture_pool_free(sac_picture_pool *pool)
{
    for (uint32_t c = 0; c < SAC_PICTURE_CLASSES; c++)
        free_all(pool->device, pool->idle[c]);
    pthread_mutex_destroy(&pool->lock);
}

/* Counts `bytes` more as taken, for which idle blocks of other classes go onto *evicted, the largest first.
 * False where that is not enough. */
static bool make_room(sac_picture_pool *pool, size_t bytes, void **evicted)
{
    for (uint32_t c = SAC_PICTURE_CLASSES; c > 0 && pool->bytes + bytes > pool->bytes_max;) {
        void *block = pop(&pool->idle[c - 1]);

        if (block == NULL) {
            c--;
            continue;
        }
        push(evicted, block);
        pool->bytes -= class_bytes(c - 1);
    }
    if (pool->bytes + bytes > pool->bytes_max)
        return false;
    pool->bytes += bytes;
    return true;
}

void *sac_picture_pool_take(sac_picture_pool *pool, size_t bytes, uint32_t *class)
{
    void *block = NULL, *evicted = NULL;
    bool room = false;

    *class = class_of(bytes);
    if (*class == SAC_PICTURE_CLASSES || class_bytes(*class) > pool->bytes_max)
        return NULL;
    pthread_mutex_lock(&pool->lock);
    block = pop(&pool->idle[*class]);
    if (block == NULL)
        room = make_room(pool, class_bytes(*class), &evicted);
    pthread_mutex_unlock(&pool->lock);
    free_all(pool->device, evicted);
    if (!room)
        return block;
    if (sac_host_alloc(pool->device, class_bytes(*class), 1, &block, NULL) != SAC_OK) {
        pthread_mutex_lock(&pool->lock);
        pool->bytes -= class_bytes(*class);
        pthread_mutex_unlock(&pool->lock);
    }
    return block;
}

void sac_picture_pool_give_back(sac_picture_pool *pool, void *block, uint32_t class)
{
    pthread_mutex_lock(&pool->lock);
    push(&pool->idle[class], block);
    pthread_mutex_unlock(&pool->lock);
}
