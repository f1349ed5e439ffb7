/* database_internal.h -- what the two files of the database share: database.c opens the directory,
 * database_use.c works with the collections in it.
 *
 *   PATH/saccade.json            {"saccade": "database", "format": 1}
 *   PATH/lock                    locked (flock) by the one process that may write
 *   PATH/collections/NAME/       a collection (collection.h)
 *   PATH/collections/.new-NAME   one that is being made; takes its name by a rename once it is complete
 *   PATH/collections/.drop-...   one that was dropped and is being deleted
 * The writer removes what it finds of the last two when it opens the directory: a kill left them. Anything
 * else is not ours and is left alone.
 */
#ifndef SACCADE_DATABASE_INTERNAL_H
#define SACCADE_DATABASE_INTERNAL_H

#include "engine/collection.h"

#include <sys/types.h>

#define SAC_DATABASE_NEW_PREFIX ".new-"
#define SAC_DATABASE_DROP_PREFIX ".drop-"

/* A collection that somebody asked for; it stays open until the database is closed or it is dropped. */
struct sac_database_entry {
    char name[SAC_NAME_MAX + 1];
    sac_collection *collection; /* NULL while it is being opened */
    size_t holders;
    struct sac_database_entry *next;
};

struct sac_database {
    sac_device *device;
    char *path, *collections;
    sac_open_mode mode;
    int lock_fd;         /* -1: a reader */
    dev_t device_number; /* of the folder, */
    ino_t inode;
    pid_t process; /* and who opened it: a child after a fork knows its parent's databases, but has none */
    struct sac_database *next_open;

    pthread_mutex_t lock; /* of what follows, and of renames under collections/ */
    pthread_cond_t opened;
    struct sac_database_entry *entries;
    unsigned drops;
};

/* Closes every collection that is open. */
void sac_database_close_entries(sac_database *database);

#endif
