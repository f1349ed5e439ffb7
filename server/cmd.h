/* cmd.h -- the subcommands of `saccade`, one file each. */
#ifndef SACCADE_SERVER_CMD_H
#define SACCADE_SERVER_CMD_H

#include "engine/saccade.h"
#include "server/options.h"

extern const struct sac_command sac_cmd_build, sac_cmd_query, sac_cmd_serve, sac_cmd_embed, sac_cmd_info,
    sac_cmd_plan, sac_cmd_tune;

/* Says on stderr why a command failed, unless that was said before; returns the exit code. */
int sac_cmd_end(const struct sac_command *command, sac_status status, const sac_error *error);

#endif
