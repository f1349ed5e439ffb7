#include "engine/recorded.h"

#include <string.h>

static sac_recorded *find(sac_workspace *ws, const sac_shape *shape)
{
    for (uint32_t i = 0; i < ws->recorded_count; i++)
        if (memcmp(&ws->recorded[i].shape, shape, sizeof *shape) == 0)
            return &ws->recorded[i];
    return NULL;
}

/* Notes a shape, over the one that was wanted longest ago. */
static sac_recorded *note(sac_workspace *ws, const sac_shape *shape)
{
    sac_recorded *place = &ws->recorded[0];

    if (ws->recorded_count < SAC_RECORDED_MAX)
        place = &ws->recorded[ws->recorded_count++];
    for (uint32_t i = 0; i < ws->recorded_count; i++)
        if (ws->recorded[i].wanted_at < place->wanted_at)
            place = &ws->recorded[i];
    sac_recording_free(place->recording);
    *place = (sac_recorded){.shape = *shape};
    return place;
}

static sac_status record(sac_workspace *ws, sac_recorded *place, sac_status (*submit)(void *context),
                         void *context)
{
    sac_status st = sac_stream_record_begin(ws->stream), ended;

    if (st != SAC_OK)
        return st;
    ws->recording = true;
    st = submit(context);
    ws->recording = false;
    ended = sac_stream_record_end(ws->stream, &place->recording);
    if (st == SAC_OK)
        st = ended;
    if (st != SAC_OK) {
        sac_recording_free(place->recording);
        place->recording = NULL;
    }
    return st;
}

sac_status sac_submit_recorded(sac_workspace *ws, const sac_shape *shape, sac_status (*submit)(void *context),
                               void *context)
{
    sac_shape whole = *shape;
    sac_recorded *place;
    sac_status st;

    if (sac_device_host_visible(ws->device))
        return submit(context);
    sac_workspace_place(ws, whole.words + sizeof whole.words / sizeof whole.words[0] - 3);
    place = find(ws, &whole);
    if (place == NULL) {
        note(ws, &whole)->wanted_at = ++ws->wanted_count;
        return submit(context);
    }
    place->wanted_at = ++ws->wanted_count;
    if (place->recording == NULL && !place->refused) {
        sac_workspace_mark mark = sac_workspace_save(ws);
        st = record(ws, place, submit, context);
        place->refused = st != SAC_OK;
        if (st == SAC_DEVICE_LOST)
            return st;
        if (st != SAC_OK)
            sac_workspace_restore(ws, mark);
    }
    if (place->refused)
        return submit(context);
    st = sac_recording_play(place->recording, ws->stream);
    return st == SAC_OK ? SAC_OK
                        : sac_fail(ws->err, st, "cannot play recorded work: %s", sac_status_text(st));
}

void sac_recorded_free(sac_workspace *ws)
{
    for (uint32_t i = 0; i < SAC_RECORDED_MAX; i++)
        sac_recording_free(ws->recorded[i].recording);
    memset(ws->recorded, 0, sizeof ws->recorded);
    ws->recorded_count = 0;
}
