/* files.h -- folders and small files that survive a power cut. */
#ifndef SACCADE_FILES_H
#define SACCADE_FILES_H

#include "engine/saccade.h"

#define SAC_PATH_MAX 4096u

/* Joins two parts with a slash. SAC_INVALID_ARGUMENT where that is longer than SAC_PATH_MAX. */
sac_status sac_path_join(char out[SAC_PATH_MAX], const char *folder, const char *name, sac_error *err);

/* Makes a folder, or finds it there. */
sac_status sac_folder_make(const char *path, sac_error *err);

/* Makes the names in a folder durable. */
sac_status sac_folder_sync(const char *path, sac_error *err);

/* Writes a small file beside its target, syncs it, and puts it in place of whatever is there. */
sac_status sac_file_replace(const char *folder, const char *name, const char *text, sac_error *err);

/* Removes a folder and everything in it, following no links. */
sac_status sac_folder_remove(const char *path, sac_error *err);

#endif
