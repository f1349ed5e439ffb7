/* wire_json.h -- what came over the wire, as JSON. */
#ifndef SACCADE_SERVER_WIRE_JSON_H
#define SACCADE_SERVER_WIRE_JSON_H

#include <jansson.h>
#include <msgpack.h>

/* The same value as JSON, the caller's. Binary becomes null, keys that are no strings are left out, and
 * bytes that are no UTF-8 become U+FFFD. NULL: no memory. Depth is what the scanner allowed. */
json_t *sac_wire_json(const msgpack_object *value);

#endif
