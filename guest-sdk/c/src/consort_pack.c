/* MessagePack: see consort_pack.h, and the format at https://github.com/msgpack/msgpack. */
#include "consort_pack.h"

#include <stdlib.h>
#include <string.h>

/* ---- Writing. ---- */

static uint8_t *room(consort_packer *packer, size_t length) {
    size_t needed = packer->length + length;
    if (needed > packer->capacity) {
        size_t capacity = packer->capacity ? packer->capacity : 64;
        while (capacity < needed) capacity *= 2;
        uint8_t *data = realloc(packer->data, capacity);
        if (!data) consort_panic("no memory for a payload of %zu bytes", needed);
        packer->data = data;
        packer->capacity = capacity;
    }
    uint8_t *at = packer->data + packer->length;
    packer->length = needed;
    return at;
}

/* A head byte and the lowest `size` bytes of a number, the highest of them first. */
static void put(consort_packer *packer, uint8_t head, uint64_t number, unsigned size) {
    uint8_t *at = room(packer, 1 + size);
    *at++ = head;
    for (unsigned left = size; left > 0; left--) *at++ = (uint8_t)(number >> (8 * (left - 1)));
}

void consort_pack_nil(consort_packer *packer) { put(packer, 0xc0, 0, 0); }

void consort_pack_bool(consort_packer *packer, bool value) {
    put(packer, value ? 0xc3 : 0xc2, 0, 0);
}

void consort_pack_uint(consort_packer *packer, uint64_t value) {
    if (value < 0x80) put(packer, (uint8_t)value, 0, 0);
    else if (value <= UINT8_MAX) put(packer, 0xcc, value, 1);
    else if (value <= UINT16_MAX) put(packer, 0xcd, value, 2);
    else if (value <= UINT32_MAX) put(packer, 0xce, value, 4);
    else put(packer, 0xcf, value, 8);
}

void consort_pack_int(consort_packer *packer, int64_t value) {
    if (value >= 0) consort_pack_uint(packer, (uint64_t)value);
    else if (value >= -32) put(packer, (uint8_t)value, 0, 0);
    else if (value >= INT8_MIN) put(packer, 0xd0, (uint64_t)value, 1);
    else if (value >= INT16_MIN) put(packer, 0xd1, (uint64_t)value, 2);
    else if (value >= INT32_MIN) put(packer, 0xd2, (uint64_t)value, 4);
    else put(packer, 0xd3, (uint64_t)value, 8);
}

void consort_pack_double(consort_packer *packer, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put(packer, 0xcb, bits, 8);
}

void consort_pack_text(consort_packer *packer, const char *text) {
    consort_pack_text_n(packer, (consort_text){(uint8_t *)text, strlen(text)});
}

void consort_pack_text_n(consort_packer *packer, consort_text text) {
    if (text.len < 32) put(packer, (uint8_t)(0xa0 | text.len), 0, 0);
    else if (text.len <= UINT8_MAX) put(packer, 0xd9, text.len, 1);
    else if (text.len <= UINT16_MAX) put(packer, 0xda, text.len, 2);
    else put(packer, 0xdb, text.len, 4);
    if (text.len) memcpy(room(packer, text.len), text.ptr, text.len);
}

void consort_pack_binary(consort_packer *packer, const void *data, size_t length) {
    if (length <= UINT8_MAX) put(packer, 0xc4, length, 1);
    else if (length <= UINT16_MAX) put(packer, 0xc5, length, 2);
    else put(packer, 0xc6, length, 4);
    if (length) memcpy(room(packer, length), data, length);
}

static void put_count(consort_packer *packer, uint32_t count, uint8_t small, uint8_t large) {
    if (count < 16) put(packer, (uint8_t)(small | count), 0, 0);
    else if (count <= UINT16_MAX) put(packer, large, count, 2);
    else put(packer, (uint8_t)(large + 1), count, 4);
}

void consort_pack_array(consort_packer *packer, uint32_t count) {
    put_count(packer, count, 0x90, 0xdc);
}

void consort_pack_map(consort_packer *packer, uint32_t count) {
    put_count(packer, count, 0x80, 0xde);
}

void consort_pack_free(consort_packer *packer) {
    free(packer->data);
    *packer = (consort_packer){0};
}

/* ---- Reading. ---- */

static bool number(consort_reader *reader, unsigned size, uint64_t *value) {
    if ((size_t)(reader->end - reader->at) < size) return false;
    *value = 0;
    for (unsigned i = 0; i < size; i++) *value = *value << 8 | *reader->at++;
    return true;
}

/* A number of two's complement in its lowest `size` bytes. */
static consort_value signed_value(uint64_t bits, unsigned size) {
    unsigned shift = 64 - 8 * size;
    int64_t value = (int64_t)(bits << shift) >> shift;
    if (value < 0) return (consort_value){.kind = CONSORT_INT, .as.i = value};
    return (consort_value){.kind = CONSORT_UINT, .as.u = (uint64_t)value};
}

static bool well_formed(const uint8_t *at, size_t length) {
    for (size_t i = 0; i < length;) {
        uint8_t head = at[i++];
        if (head < 0x80) continue;
        unsigned more = head >= 0xf0 ? 3 : head >= 0xe0 ? 2 : 1;
        if (head < 0xc2 || head > 0xf4 || length - i < more) return false;
        uint32_t point = head & (0x3f >> more);
        for (unsigned k = 0; k < more; k++) {
            if ((at[i] & 0xc0) != 0x80) return false;
            point = point << 6 | (at[i++] & 0x3f);
        }
        static const uint32_t LEAST[] = {0, 0x80, 0x800, 0x10000};
        bool surrogate = point >= 0xd800 && point <= 0xdfff;
        if (point < LEAST[more] || point > 0x10ffff || surrogate) return false;
    }
    return true;
}

static bool text(consort_reader *reader, uint64_t length, consort_value *value) {
    if ((uint64_t)(reader->end - reader->at) < length) return false;
    if (!well_formed(reader->at, (size_t)length)) return false;
    value->kind = CONSORT_TEXT_VALUE;
    value->as.text = (consort_text){(uint8_t *)reader->at, (size_t)length};
    reader->at += length;
    return true;
}

static bool binary(consort_reader *reader, uint64_t length, consort_value *value) {
    if ((uint64_t)(reader->end - reader->at) < length) return false;
    value->kind = CONSORT_BINARY;
    value->as.binary = (consort_bytes){(uint8_t *)reader->at, (size_t)length};
    reader->at += length;
    return true;
}

static bool counted(consort_kind kind, uint64_t count, consort_value *value) {
    value->kind = kind;
    value->as.count = (uint32_t)count;
    return true;
}

static bool floating(uint64_t bits, unsigned size, consort_value *value) {
    value->kind = CONSORT_DOUBLE;
    if (size == 8) {
        memcpy(&value->as.number, &bits, 8);
    } else {
        uint32_t half = (uint32_t)bits;
        float narrow;
        memcpy(&narrow, &half, 4);
        value->as.number = narrow;
    }
    return true;
}

/* A value whose head byte is followed by a number of the size that the head names. */
static bool long_form(consort_reader *reader, uint8_t head, consort_value *value) {
    unsigned size;
    if (head <= 0xc6) size = 1u << (head - 0xc4);
    else if (head <= 0xc9) return false;
    else if (head <= 0xcb) size = head == 0xca ? 4 : 8;
    else if (head <= 0xcf) size = 1u << (head - 0xcc);
    else if (head <= 0xd3) size = 1u << (head - 0xd0);
    else if (head <= 0xd8) return false;
    else if (head <= 0xdb) size = 1u << (head - 0xd9);
    else size = head & 1 ? 4 : 2;
    uint64_t n;
    if (!number(reader, size, &n)) return false;
    if (head <= 0xc6) return binary(reader, n, value);
    if (head <= 0xcb) return floating(n, size, value);
    if (head <= 0xcf) {
        *value = (consort_value){.kind = CONSORT_UINT, .as.u = n};
        return true;
    }
    if (head <= 0xd3) {
        *value = signed_value(n, size);
        return true;
    }
    if (head <= 0xdb) return text(reader, n, value);
    return counted(head <= 0xdd ? CONSORT_ARRAY : CONSORT_MAP, n, value);
}

static bool next(consort_reader *reader, consort_value *value) {
    if (reader->at == reader->end) return false;
    uint8_t head = *reader->at++;
    if (head < 0x80) *value = (consort_value){.kind = CONSORT_UINT, .as.u = head};
    else if (head < 0x90) return counted(CONSORT_MAP, head & 0x0f, value);
    else if (head < 0xa0) return counted(CONSORT_ARRAY, head & 0x0f, value);
    else if (head < 0xc0) return text(reader, head & 0x1f, value);
    else if (head == 0xc0) *value = (consort_value){.kind = CONSORT_NIL};
    else if (head == 0xc1) return false;
    else if (head <= 0xc3) {
        *value = (consort_value){.kind = CONSORT_BOOL, .as.boolean = head == 0xc3};
    } else if (head >= 0xe0) {
        *value = (consort_value){.kind = CONSORT_INT, .as.i = (int8_t)head};
    } else return long_form(reader, head, value);
    return true;
}

/* One value with all that it holds, without recursion: a stack of what is still to come. */
static bool whole(consort_reader *reader) {
    uint64_t left[CONSORT_DEPTH_MAX + 1] = {1};
    int depth = 0;
    while (depth >= 0) {
        if (left[depth] == 0) {
            depth--;
            continue;
        }
        left[depth]--;
        consort_value value;
        if (!next(reader, &value)) return false;
        if (value.kind != CONSORT_ARRAY && value.kind != CONSORT_MAP) continue;
        if (depth == CONSORT_DEPTH_MAX) return false;
        left[++depth] = (uint64_t)value.as.count << (value.kind == CONSORT_MAP);
    }
    return true;
}

bool consort_unpack_begin(consort_reader *reader, consort_bytes payload) {
    *reader = (consort_reader){payload.ptr, payload.ptr + payload.len};
    consort_reader check = *reader;
    return payload.len > 0 && whole(&check) && check.at == check.end;
}

consort_value consort_unpack_next(consort_reader *reader) {
    consort_value value;
    if (next(reader, &value)) return value;
    return (consort_value){.kind = CONSORT_NIL};
}

void consort_unpack_skip(consort_reader *reader) { whole(reader); }

bool consort_unpack_find(consort_reader map, const char *key, consort_reader *value) {
    consort_value head = consort_unpack_next(&map);
    if (head.kind != CONSORT_MAP) return false;
    for (uint32_t i = 0; i < head.as.count; i++) {
        consort_reader at = map;
        if (consort_is_text(consort_unpack_next(&at), key)) {
            *value = at;
            return true;
        }
        consort_unpack_skip(&map);
        consort_unpack_skip(&map);
    }
    return false;
}

bool consort_is_text(consort_value value, const char *text) {
    return value.kind == CONSORT_TEXT_VALUE && value.as.text.len == strlen(text) &&
           memcmp(value.as.text.ptr, text, value.as.text.len) == 0;
}
