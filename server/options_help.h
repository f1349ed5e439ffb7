/* options_help.h -- what --help prints about a command, from the same tables that parse it. */
#ifndef SACCADE_SERVER_OPTIONS_HELP_H
#define SACCADE_SERVER_OPTIONS_HELP_H

#include "server/options.h"

/* Usage, examples, then each option with its range, default and environment variable, on stdout. Defaults
 * are read from the values, so this comes before anything is parsed into them. */
void sac_command_help(const struct sac_arguments *arguments);

/* "a whole number from 1 to 1000", "one of auto, cpu, ref". */
void sac_option_wanted(const struct sac_option *option, char *text, size_t size);

#endif
