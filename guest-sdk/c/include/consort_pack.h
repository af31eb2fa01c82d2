/*
 * MessagePack for payloads, the convention of all Consort SDKs.
 *
 * A packer grows as it is written to. A reader walks over bytes that consort_unpack_begin has
 * checked as a whole: exactly one value, at most CONSORT_DEPTH_MAX levels deep, texts in UTF-8.
 * After that check, reading cannot run over the end.
 */
#ifndef CONSORT_PACK_H
#define CONSORT_PACK_H

#include "consort.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How deep values may nest. */
#define CONSORT_DEPTH_MAX 16

/* Begin with {0}; .data and .length are what was written. */
typedef struct {
    uint8_t *data;
    size_t length;
    size_t capacity;
} consort_packer;

void consort_pack_nil(consort_packer *packer);
void consort_pack_bool(consort_packer *packer, bool value);
void consort_pack_int(consort_packer *packer, int64_t value);
void consort_pack_uint(consort_packer *packer, uint64_t value);
void consort_pack_double(consort_packer *packer, double value);
/* A terminated text. */
void consort_pack_text(consort_packer *packer, const char *text);
void consort_pack_text_n(consort_packer *packer, consort_text text);
void consort_pack_binary(consort_packer *packer, const void *data, size_t length);
/* The head of an array; that many values must follow. */
void consort_pack_array(consort_packer *packer, uint32_t count);
/* The head of a map; that many pairs of key and value must follow. */
void consort_pack_map(consort_packer *packer, uint32_t count);
void consort_pack_free(consort_packer *packer);

typedef enum {
    CONSORT_NIL,
    CONSORT_BOOL,
    CONSORT_UINT, /* An integer from 0 upwards. */
    CONSORT_INT,  /* An integer below 0. */
    CONSORT_DOUBLE,
    CONSORT_TEXT_VALUE,
    CONSORT_BINARY,
    CONSORT_ARRAY,
    CONSORT_MAP
} consort_kind;

/* A value without what an array or a map holds, which follows it. */
typedef struct {
    consort_kind kind;
    union {
        bool boolean;
        uint64_t u;
        int64_t i;
        double number;
        consort_text text; /* Within the payload. */
        consort_bytes binary; /* Within the payload. */
        uint32_t count; /* Values of an array, pairs of a map. */
    } as;
} consort_value;

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} consort_reader;

/* Checks a payload and begins to read it; false if it is not one sound value. */
bool consort_unpack_begin(consort_reader *reader, consort_bytes payload);
/* The next value. At the end of the payload it is nil. */
consort_value consort_unpack_next(consort_reader *reader);
/* Leaves out the next value with all that it holds. */
void consort_unpack_skip(consort_reader *reader);
/* Whether the next value is a map that has the text `key`; if so, `value` reads what belongs to it. */
bool consort_unpack_find(consort_reader map, const char *key, consort_reader *value);
/* Whether a value is this text. */
bool consort_is_text(consort_value value, const char *text);

#ifdef __cplusplus
}
#endif
#endif
