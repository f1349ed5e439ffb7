/* log.h -- one logfmt line on stderr for each event: ts=... level=... msg="..." key=value ... */
#ifndef SACCADE_SERVER_LOG_H
#define SACCADE_SERVER_LOG_H

#include "server/server.h"

/* Process-wide, because stderr is. Set once before threads start. */
void sac_log_level_set(int level);

/* fields: further `key=value` text, formatted; "" for none. Line breaks and other control bytes in it are
 * replaced, so that nobody can forge a line. Any thread. */
__attribute__((format(printf, 3, 4))) void sac_log(int level, const char *message, const char *fields, ...);

#endif
