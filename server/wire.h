/* wire.h -- msgpack-c as we use it, and the few words that every reply is written with. */
#ifndef SACCADE_SERVER_WIRE_H
#define SACCADE_SERVER_WIRE_H

/* Most replies are small, and thousands may wait for their readers. */
#define MSGPACK_SBUFFER_INIT_SIZE 512

#include <msgpack.h>

#include <string.h>

static inline void sac_pack_text(msgpack_packer *packer, const char *text)
{
    msgpack_pack_str_with_body(packer, text, strlen(text));
}

static inline void sac_pack_key_uint(msgpack_packer *packer, const char *key, uint64_t value)
{
    sac_pack_text(packer, key);
    msgpack_pack_uint64(packer, value);
}

static inline void sac_pack_key_double(msgpack_packer *packer, const char *key, double value)
{
    sac_pack_text(packer, key);
    msgpack_pack_double(packer, value);
}

static inline void sac_pack_key_text(msgpack_packer *packer, const char *key, const char *value)
{
    sac_pack_text(packer, key);
    sac_pack_text(packer, value);
}

static inline void sac_pack_key_bool(msgpack_packer *packer, const char *key, bool value)
{
    sac_pack_text(packer, key);
    if (value)
        msgpack_pack_true(packer);
    else
        msgpack_pack_false(packer);
}

#endif
