#include "engine/recorded.h"

#include <string.h>

static sac_recorded *find(sac_workspace *ws, const sac_shape *shape)
{
    for (uint32_t i = 0; i < SAC_RECORDED_MAX && i < ws->recorded_count; i++)
        if (memcmp(&ws->recorded[i].shape, shape, sizeof *shape) == 0)
            return &ws->recorded[i];
    return NULL;
}

/* Notes a shape, over the one noted longest ago. */
static void note(sac_workspace *ws, const sac_shape *shape)
{
    sac_recorded *place = &ws->recorded[ws->recorded_count++ % SAC_RECORDED_MAX];

    sac_recording_free(place->recording);
    *place = (sac_recorded){.shape = *shape};
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
        note(ws, &whole);
        return submit(context);
    }
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
    return st == SAC_OK ? SAC_OK : sac_fail(ws->err, st, "cannot play a search: %s", sac_status_text(st));
}

void sac_recorded_free(sac_workspace *ws)
{
    for (uint32_t i = 0; i < SAC_RECORDED_MAX; i++)
        sac_recording_free(ws->recorded[i].recording);
    memset(ws->recorded, 0, sizeof ws->recorded);
    ws->recorded_count = 0;
}
