#include "server/human.h"
#include "server/tune.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROWS_SHOWN = 12 };

static uint64_t count_of(const sac_tune_input *input)
{
    return input->params.count != 0 ? input->params.count : input->params.n;
}

/* "75 us", "1.2 ms", "0.31 s" */
static const char *short_time(double seconds, char text[SAC_HUMAN_SIZE])
{
    if (seconds < 1e-3)
        snprintf(text, SAC_HUMAN_SIZE, "%.0f us", seconds * 1e6);
    else if (seconds < 1)
        snprintf(text, SAC_HUMAN_SIZE, seconds < 1e-2 ? "%.1f ms" : "%.0f ms", seconds * 1e3);
    else
        sac_human_seconds(seconds, text);
    return text;
}

/* ---- the table -------------------------------------------------------------------------------------- */

static void print_row(const sac_tuned *t, bool chosen, int width)
{
    char alone[SAC_HUMAN_SIZE], batch[SAC_HUMAN_SIZE] = "-", p50[SAC_HUMAN_SIZE], p99[SAC_HUMAN_SIZE];
    char bytes[SAC_HUMAN_SIZE], build[SAC_HUMAN_SIZE], rows[SAC_HUMAN_SIZE], how[48] = "-";

    sac_human_count((uint64_t)(1 / t->seconds_mean), alone);
    if (t->batch_rate > 0)
        sac_human_count((uint64_t)t->batch_rate, batch);
    if (t->ask > 0)
        snprintf(how, sizeof how, "recall %.3f", (double)t->ask);
    else if (t->nprobe > 0)
        snprintf(how, sizeof how, "%u, %u", t->nprobe, t->depth);
    printf("%c %-*s %-14s %.3f +-%.3f %9s %9s %8s %8s %9s %8s %11s\n", chosen ? '*' : ' ', width, t->spec,
           how, (double)t->recall, (double)t->recall_error, alone, batch, short_time(t->seconds_p50, p50),
           short_time(t->seconds_p99, p99), sac_human_bytes(t->bytes, bytes),
           short_time(t->build_seconds, build), sac_human_count(t->rows, rows));
}

static void print_table(const sac_tune_input *input, const sac_tuning *tuning)
{
    size_t shown = tuning->count < ROWS_SHOWN ? tuning->count : ROWS_SHOWN;
    int width = 12;
    char recall[24];

    for (size_t i = 0; i < shown; i++)
        width = (int)strlen(tuning->at[i].spec) > width ? (int)strlen(tuning->at[i].spec) : width;
    snprintf(recall, sizeof recall, "recall@%u", input->params.k);
    printf("  %-*s %-14s %-13s %9s %9s\n", width, "", "asked with", "", "alone", "in batches");
    printf("  %-*s %-14s %-13s %9s %9s %8s %8s %9s %8s %11s\n", width, "index", "nprobe, depth", recall,
           "a second", "a second", "p50", "p99", "memory", "build", "tried with");
    for (size_t i = 0; i < shown; i++)
        print_row(&tuning->at[i], i == 0, width);
    if (tuning->count > shown)
        printf("  and %zu more, which --json has\n", tuning->count - shown);
    putchar('\n');
}

/* ---- what to type next ------------------------------------------------------------------------------ */

static void print_next(const struct sac_tune_ask *ask, const sac_tune_input *input, const sac_tuned *best)
{
    const char *metric = sac_metric_name(input->params.metric);

    printf("next:\n");
    if (ask->file != NULL)
        printf("  saccade build %s --data vectors.sac --metric %s --index '%s'\n", ask->file, metric,
               best->spec);
    else
        printf("  saccade build PATH... --data %s --collection %s --index '%s'   # PATH: what it was built "
               "from\n",
               ask->local.data, ask->local.name, best->spec);
    printf("  saccade query --vector FILE --data %s", ask->file != NULL ? "vectors.sac" : ask->local.data);
    if (ask->file == NULL)
        printf(" --collection %s", ask->local.name);
    if (best->ask > 0)
        printf(" --recall %.3f", (double)best->ask);
    else if (best->nprobe > 0)
        printf(" --nprobe %u --depth %u", best->nprobe, best->depth);
    printf(" -k %u\n", input->params.k);
    if (best->ask > 0)
        printf("  without a measured curve: nprobe %u and depth %u (on the wire, oversampling %.3g)\n",
               best->nprobe, best->depth, (double)best->depth / input->params.k);
    putchar('\n');
}

/* ---- in words --------------------------------------------------------------------------------------- */

static void print_choice(const sac_tune_input *input, const sac_tuned *best)
{
    char mean[SAC_HUMAN_SIZE], p99[SAC_HUMAN_SIZE], bytes[SAC_HUMAN_SIZE];

    printf("%s: %s finds %.1f %% of the true %u, a query alone takes %s (99 of 100 within %s), %s\n\n",
           best->reaches ? "chosen" : "nearest to the goal", best->spec, 100 * (double)best->recall,
           input->params.k, short_time(best->seconds_mean, mean), short_time(best->seconds_p99, p99),
           sac_human_bytes(best->bytes, bytes));
}

/* Calls fn with a sentence for each thing that may turn out otherwise. */
static void each_doubt(const sac_tune_input *input, const sac_tuning *tuning,
                       void (*fn)(void *context, const char *text), void *context)
{
    const sac_tuned *best = &tuning->at[0];
    char text[400], rows[SAC_HUMAN_SIZE], count[SAC_HUMAN_SIZE];

    if (tuning->held_back)
        fn(context,
           "the queries were vectors held back; those of users may be harder: give some with --queries");
    if (best->extrapolated) {
        snprintf(text, sizeof text,
                 best->nprobe == 0
                     ? "%s vectors stood for %s: the time of exact search grows in proportion"
                     : "%s vectors stood for %s: nprobe, depth and build time go on growing by powers of the "
                       "count "
                       "that two sizes of sample gave, and what no longer fits the caches may be slower",
                 sac_human_count(best->rows, rows), sac_human_count(count_of(input), count));
        fn(context, text);
    }
    if (!best->verified)
        fn(context, "the choice was not looked at twice: there was no time for it");
    if (tuning->out_of_time)
        fn(context, "time ran out before everything was tried: more --seconds may find better");
    if ((double)best->recall < (double)input->params.recall && best->reaches)
        fn(context, "recall lies within its error of the goal, not above it");
    fn(context, "times are this machine's, the least of a few rounds: other work on it adds to them");
}

static void print_doubt(void *context, const char *text)
{
    (void)context;
    printf("  - %s\n", text);
}

void sac_tune_print(const struct sac_tune_ask *ask, const sac_tune_input *input, const sac_tuning *tuning)
{
    char count[SAC_HUMAN_SIZE], queries[SAC_HUMAN_SIZE], seconds[SAC_HUMAN_SIZE];

    printf("%s vectors of %u components, %s; %s queries%s; %s\n\n", sac_human_count(count_of(input), count),
           input->params.dim, sac_metric_name(input->params.metric),
           sac_human_count(tuning->query_count, queries), tuning->held_back ? " held back from them" : "",
           sac_human_seconds(tuning->seconds, seconds));
    print_table(input, tuning);
    print_choice(input, &tuning->at[0]);
    if (tuning->at[0].reaches)
        print_next(ask, input, &tuning->at[0]);
    printf("what is uncertain:\n");
    each_doubt(input, tuning, print_doubt, NULL);
}

void sac_tune_explain(const sac_tune_input *input, const sac_tuning *tuning, sac_error *err)
{
    const sac_tune_params *p = &input->params;
    const sac_tuned *best = &tuning->at[0];
    char time[SAC_HUMAN_SIZE], wanted[SAC_HUMAN_SIZE], exact[SAC_HUMAN_SIZE], latency[64] = "",
                                                                              what[160] = "";

    for (size_t i = 0; i < tuning->count; i++)
        if (strcmp(tuning->at[i].spec, "Flat") == 0)
            snprintf(what, sizeof what, "; exact search (Flat) finds all in %s",
                     short_time(tuning->at[i].seconds_p99, exact));
    if (p->latency > 0)
        snprintf(latency, sizeof latency, " within %s", short_time(p->latency, wanted));
    sac_fail(
        err, SAC_NOT_FOUND,
        "nothing reaches %s%.3g%s: nearest is %s with recall %.3f, 99 of 100 queries in %s%s; ask for less "
        "recall%s",
        p->recall > 0 ? "recall " : "the best recall ", (double)p->recall, latency, best->spec,
        (double)best->recall, short_time(best->seconds_p99, time), what,
        p->latency > 0  ? " or more time"
        : p->memory > 0 ? " or give more memory"
                        : "");
}

/* ---- JSON ------------------------------------------------------------------------------------------- */

static json_t *tuned_json(const sac_tuned *t)
{
    return json_pack("{s:s, s:f, s:f, s:b, s:b, s:b, s:I, s:o, s:o, s:o, s:f, s:f, s:f, s:f, s:o, s:I, s:f}",
                     "index", t->spec, "recall", (double)t->recall, "recall_error", (double)t->recall_error,
                     "reaches", t->reaches, "verified", t->verified, "extrapolated", t->extrapolated, "rows",
                     (json_int_t)t->rows, "nprobe", t->nprobe > 0 ? json_integer(t->nprobe) : json_null(),
                     "depth", t->nprobe > 0 ? json_integer(t->depth) : json_null(), "ask",
                     t->ask > 0 ? json_real(round((double)t->ask * 1000) / 1000) : json_null(),
                     "queries_per_second", 1 / t->seconds_mean, "seconds_mean", t->seconds_mean,
                     "seconds_p50", t->seconds_p50, "seconds_p99", t->seconds_p99, "batch_queries_per_second",
                     t->batch_rate > 0 ? json_real(t->batch_rate) : json_null(), "bytes",
                     (json_int_t)t->bytes, "build_seconds", t->build_seconds);
}

static void add_doubt(void *doubts, const char *text)
{
    json_array_append_new(doubts, json_string(text));
}

static json_t *goal_json(const sac_tune_params *p)
{
    return json_pack("{s:o, s:o, s:o, s:i}", "recall",
                     p->recall > 0 ? json_real(round((double)p->recall * 1e6) / 1e6) : json_null(), "latency",
                     p->latency > 0 ? json_real(p->latency) : json_null(), "memory",
                     p->memory > 0 ? json_integer((json_int_t)p->memory) : json_null(), "k", (int)p->k);
}

sac_status sac_tune_print_json(const struct sac_tune_ask *ask, const sac_tune_input *input,
                               const sac_tuning *tuning, sac_error *err)
{
    json_t *tried = json_array(), *doubts = json_array(), *json;

    for (size_t i = 0; i < tuning->count; i++)
        json_array_append_new(tried, tuned_json(&tuning->at[i]));
    each_doubt(input, tuning, add_doubt, doubts);
    json =
        json_pack("{s:s, s:I, s:i, s:s, s:I, s:I, s:i, s:b, s:o, s:b, s:o, s:o, s:b, s:f, s:o, s:s}", "from",
                  ask->file != NULL ? ask->file : ask->local.name, "count", (json_int_t)count_of(input),
                  "dim", (int)input->params.dim, "metric", sac_metric_name(input->params.metric), "sample",
                  (json_int_t)input->params.n, "seed", (json_int_t)input->params.seed, "queries",
                  (int)tuning->query_count, "held_back", tuning->held_back, "goal", goal_json(&input->params),
                  "reached", tuning->at[0].reaches, "chosen", tuned_json(&tuning->at[0]), "tried", tried,
                  "out_of_time", tuning->out_of_time, "seconds", tuning->seconds, "uncertain", doubts,
                  "device", sac_device_describe(ask->local.device));
    if (json == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for the answer");
    json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(json);
    return SAC_OK;
}
