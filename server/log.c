#include "server/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static atomic_int level_max = SAC_LOG_INFO;

void sac_log_level_set(int level)
{
    atomic_store(&level_max, level);
}

void sac_log(int level, const char *message, const char *fields, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    char line[1536];
    struct timespec now;
    struct tm day;
    va_list args;
    size_t n;
    int room = (int)sizeof line - 1; /* for the line's end */

    if (level > atomic_load_explicit(&level_max, memory_order_relaxed))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &day);
    n = strftime(line, sizeof line, "ts=%Y-%m-%dT%H:%M:%S", &day);
    n += (size_t)snprintf(line + n, (size_t)room - n, ".%03ldZ level=%s msg=\"%s\"%s", now.tv_nsec / 1000000,
                          names[level], message, fields[0] != '\0' ? " " : "");
    va_start(args, fields);
    int wanted = vsnprintf(line + n, (size_t)room - n, fields, args);
    va_end(args);
    if (wanted > 0)
        n = n + (size_t)wanted < (size_t)room ? n + (size_t)wanted : (size_t)room - 1;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[n++] = '\n';
    /* One write for a line, so that lines of several threads never mix. There is nobody to tell of failure.
     */
    if (write(STDERR_FILENO, line, n) < 0)
        return;
}
