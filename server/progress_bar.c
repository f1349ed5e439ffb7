#include "server/progress_bar.h"

#include "server/human.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { BAR_MAX = 40, PLAIN_LINE_S = 10 };

static volatile sig_atomic_t interrupted;
static struct sigaction old_interrupt, old_terminate;

/* SA_RESETHAND: the second signal does what it always did. */
static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

bool sac_bar_interrupted(void)
{
    return interrupted != 0;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int terminal_width(void)
{
    struct winsize w;

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col >= 20 ? w.ws_col : 80;
}

/* What the parent ignored for us (nohup, a shell's background job) stays ignored. */
static void watch(int number, const struct sigaction *action, struct sigaction *old)
{
    if (sigaction(number, action, old) == 0 && old->sa_handler == SIG_IGN)
        sigaction(number, old, NULL);
}

void sac_bar_begin(struct sac_bar *bar, bool quiet)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART};

    *bar = (struct sac_bar){.quiet = quiet, .terminal = isatty(STDERR_FILENO) != 0};
    watch(SIGINT, &action, &old_interrupt);
    watch(SIGTERM, &action, &old_terminate);
}

/* "1,200/3,272  85/s  3 failed  0:24 left", or how long it took once the stage is over. */
static void describe(const sac_progress *p, bool over, char *text, size_t size)
{
    char done[SAC_HUMAN_SIZE], total[SAC_HUMAN_SIZE], rate[SAC_HUMAN_SIZE], time[SAC_HUMAN_SIZE];
    char failed[SAC_HUMAN_SIZE + 16] = "", speed[SAC_HUMAN_SIZE + 8] = "", left[SAC_HUMAN_SIZE + 16] = "";

    sac_human_count(p->done, done);
    sac_human_count(p->total, total);
    if (p->failed > 0)
        snprintf(failed, sizeof failed, "  %s failed", sac_human_count(p->failed, rate));
    if (p->seconds > 0.05 && p->done > 0)
        snprintf(speed, sizeof speed, "  %s", sac_human_rate((double)p->done / p->seconds, rate));
    if (over)
        snprintf(left, sizeof left, "  %s", sac_human_seconds(p->seconds, time));
    else if (p->seconds_left >= 0)
        snprintf(left, sizeof left, "  %s left", sac_human_seconds(p->seconds_left, time));
    if (p->total == 0)
        snprintf(text, size, "%s%s%s%s", done, speed, failed, left);
    else
        snprintf(text, size, "%s/%s%s%s%s", done, total, speed, failed, left);
}

static double share(const sac_progress *p)
{
    double part = p->total == 0 ? 0 : (double)p->done / (double)p->total;

    return part < 0 ? 0 : part > 1 ? 1 : part;
}

/* embed     37% [===========>                  ] 1,200/3,272  85/s  0:24 left */
static void draw_bar(const sac_progress *p, bool over)
{
    char text[200], cells[BAR_MAX + 1];
    int room, filled;

    describe(p, over, text, sizeof text);
    fprintf(stderr, "\r%-8s ", p->stage);
    room = terminal_width() - 18 - (int)strlen(text);
    if (p->total > 0) {
        fprintf(stderr, "%3.0f%% ", 100 * share(p));
        if (room >= 10) {
            room = room > BAR_MAX ? BAR_MAX : room;
            filled = (int)(share(p) * room);
            memset(cells, ' ', sizeof cells);
            memset(cells, '=', (size_t)filled);
            if (filled < room)
                cells[filled] = '>';
            fprintf(stderr, "[%.*s] ", room, cells);
        }
    }
    fprintf(stderr, "%s\033[K%s", text, over ? "\n" : "");
}

static void draw_line(const sac_progress *p, bool over)
{
    char text[200];

    describe(p, over, text, sizeof text);
    fprintf(stderr, "%-8s %s\n", p->stage, text);
}

static void end_stage(struct sac_bar *bar)
{
    if (bar->stage == NULL || bar->quiet)
        return;
    if (bar->terminal)
        draw_bar(&bar->last, true);
    else
        draw_line(&bar->last, true);
}

bool sac_bar_show(void *context, const sac_progress *p)
{
    struct sac_bar *bar = context;
    double t = now();

    if (bar->quiet)
        return !sac_bar_interrupted();
    if (bar->stage == NULL || strcmp(bar->stage, p->stage) != 0) {
        end_stage(bar);
        bar->stage = p->stage;
        bar->shown_at = t;
    }
    bar->last = *p;
    if (bar->terminal) {
        draw_bar(p, false);
    } else if (t - bar->shown_at >= PLAIN_LINE_S) {
        draw_line(p, false);
        bar->shown_at = t;
    }
    return !sac_bar_interrupted();
}

void sac_bar_end(struct sac_bar *bar)
{
    end_stage(bar);
    bar->stage = NULL;
    sigaction(SIGINT, &old_interrupt, NULL);
    sigaction(SIGTERM, &old_terminate, NULL);
}
