/* config.h -- whether a server's configuration makes sense, before anything is opened. */
#ifndef SACCADE_SERVER_CONFIG_H
#define SACCADE_SERVER_CONFIG_H

#include "server/server.h"

/* SAC_INVALID_ARGUMENT names the field and its range. */
sac_status sac_server_config_check(const struct sac_server_config *config, sac_error *err);

#endif
