/* status.h -- the one list of outcomes, shared by every layer and by the wire.
 *
 * A function that can fail returns sac_status and, where a reader would want to know more, fills the
 * caller's sac_error: what was wrong, where, and what to do. There is no global "last error".
 * Part of the public API: installed beside saccade.h.
 */
#ifndef SACCADE_STATUS_H
#define SACCADE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* X(name, value, text). The names, without SAC_, are the CODE_NAMEs of the wire (PROTOCOL.md). */
#define SAC_STATUS_MAP(X)                                                           \
    X(OK, 0, "success")                                                             \
    X(INVALID_ARGUMENT, -1, "argument out of range")                                \
    X(UNAUTHENTICATED, -2, "no valid token")                                        \
    X(PERMISSION_DENIED, -3, "the token's role does not allow this")                \
    X(NOT_FOUND, -4, "no such item, collection or file")                            \
    X(TOO_LARGE, -5, "over a size limit")                                           \
    X(MALFORMED, -6, "bytes do not follow their format")                            \
    X(UNKNOWN_METHOD, -7, "no such method")                                         \
    X(OVERLOADED, -8, "refused to keep the others on time: retry later")            \
    X(DEADLINE_EXCEEDED, -9, "the time budget ran out")                             \
    X(UNAVAILABLE, -10, "starting, draining or restarting: retry later")            \
    X(READ_ONLY, -11, "writes are refused: the disk is full or has failed")         \
    X(IMAGE_REJECTED, -12, "the picture is over a limit or of an unsupported kind") \
    X(IMAGE_CORRUPT, -13, "the picture's bytes are damaged")                        \
    X(VERSION_MISMATCH, -14, "made by another model or format version")             \
    X(INTERNAL, -15, "a bug in saccade")                                            \
    X(ALREADY_EXISTS, -16, "a different one of that name exists")                   \
    X(NO_MEMORY, -17, "host memory exhausted")                                      \
    X(DEVICE_MEMORY, -18, "device memory exhausted: a smaller batch may work")      \
    X(DEVICE_LOST, -19, "the device failed: reopen it")                             \
    X(CORRUPT, -20, "stored bytes fail their checksum")                             \
    X(IO, -21, "the operating system reported an error")                            \
    X(BUSY, -22, "locked by another process")                                       \
    X(CANCELLED, -23, "stopped on request")                                         \
    X(UNSUPPORTED, -24, "not built into this binary or not possible on this device")

typedef enum sac_status {
#define X(name, value, text) SAC_##name = value,
    SAC_STATUS_MAP(X)
#undef X
} sac_status;

#define SAC_ERROR_TEXT_SIZE 512

/* Filled on failure only. text is NUL-terminated and never empty after a failure. */
typedef struct sac_error {
    sac_status status;
    char text[SAC_ERROR_TEXT_SIZE];
} sac_error;

/* "INVALID_ARGUMENT", and "INTERNAL" for a value outside the list. Static storage. */
const char *sac_status_name(sac_status status);

/* The list's own words for a status. Static storage. */
const char *sac_status_text(sac_status status);

/* Writes the formatted text into *err (NULL allowed; cut to fit) and returns status, so that a caller
 * can write `return sac_fail(err, SAC_NOT_FOUND, "no collection %s: create it first", name);`. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
sac_status
sac_fail(sac_error *err, sac_status status, const char *format, ...);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
