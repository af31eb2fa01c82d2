/*
 * From the bindings to consort.h: ownership, errors and texts.
 *
 * Callbacks have weak definitions here, which a plugin's own replace. The bindings hand over
 * ownership of what a callback is given; the functions below give it back after the callback.
 */
#include "consort.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Callbacks that a plugin leaves out. ---- */

#define DEFAULT __attribute__((weak))

DEFAULT bool consort_setup(consort_text *error) { (void)error; return true; }
DEFAULT void consort_shutdown(consort_reason reason) { (void)reason; }
DEFAULT void consort_promote_leader(const consort_leadership *leadership) { (void)leadership; }
DEFAULT void consort_demote_leader(void) {}
DEFAULT void consort_promote_follower(const consort_leadership *leadership) { (void)leadership; }
DEFAULT void consort_demote_follower(void) {}
DEFAULT void consort_peer_added(const consort_peer *peer) { (void)peer; }
DEFAULT void consort_peer_removed(const consort_peer *peer) { (void)peer; }
DEFAULT void consort_leader_message(consort_bytes payload, const consort_leadership *sender) {
    (void)payload;
    (void)sender;
}
DEFAULT void consort_peer_message(consort_bytes payload, const consort_peer *sender) {
    (void)payload;
    (void)sender;
}
DEFAULT void consort_state_changed(const consort_change *changes, size_t count) {
    (void)changes;
    (void)count;
}
DEFAULT void consort_writes_superseded(consort_texts keys) { (void)keys; }
DEFAULT void consort_timer(uint64_t token, uint64_t due) { (void)token; (void)due; }
DEFAULT bool consort_local_request(consort_text topic, consort_bytes payload,
                                   consort_bytes *answer, consort_text *error) {
    (void)topic;
    (void)payload;
    (void)answer;
    return consort_fail(error, "this plugin answers no requests");
}
DEFAULT consort_bytes consort_save(void) { return (consort_bytes){0}; }
DEFAULT bool consort_restore(consort_bytes saved, consort_text from_version, consort_text *error) {
    (void)saved;
    (void)from_version;
    (void)error;
    return true;
}

/* ---- What the host calls. ---- */

bool exports_consort_plugin_lifecycle_setup(plugin_string_t *error) {
    *error = (consort_text){0};
    return consort_setup(error);
}

void exports_consort_plugin_lifecycle_shutdown(exports_consort_plugin_lifecycle_reason_t reason) {
    consort_shutdown((consort_reason)reason);
}

void exports_consort_plugin_role_promote_leader(
    exports_consort_plugin_role_leadership_t *leadership) {
    consort_promote_leader(leadership);
    consort_leadership_free(leadership);
}

void exports_consort_plugin_role_demote_leader(void) { consort_demote_leader(); }

void exports_consort_plugin_role_promote_follower(
    exports_consort_plugin_role_leadership_t *leadership) {
    consort_promote_follower(leadership);
    consort_leadership_free(leadership);
}

void exports_consort_plugin_role_demote_follower(void) { consort_demote_follower(); }

void exports_consort_plugin_peer_events_on_peer_added(
    exports_consort_plugin_peer_events_peer_t *peer) {
    consort_peer_added(peer);
    consort_peer_free(peer);
}

void exports_consort_plugin_peer_events_on_peer_removed(
    exports_consort_plugin_peer_events_peer_t *peer) {
    consort_peer_removed(peer);
    consort_peer_free(peer);
}

void exports_consort_plugin_message_events_on_leader_message(
    plugin_list_u8_t *payload, exports_consort_plugin_message_events_leadership_t *sender) {
    consort_leader_message(*payload, sender);
    consort_bytes_free(payload);
    consort_leadership_free(sender);
}

void exports_consort_plugin_message_events_on_peer_message(
    plugin_list_u8_t *payload, exports_consort_plugin_message_events_peer_t *sender) {
    consort_peer_message(*payload, sender);
    consort_bytes_free(payload);
    consort_peer_free(sender);
}

static consort_change change_of(const exports_consort_plugin_state_events_change_t *from) {
    consort_change change = {
        .origin = (consort_origin)from->origin.tag,
        .key = from->key,
        .outcome = (consort_outcome)from->outcome.tag,
    };
    if (change.origin == CONSORT_DEVICE) change.device = from->origin.val.device;
    if (change.outcome == CONSORT_PUT) change.value = from->outcome.val.put;
    if (change.outcome == CONSORT_COUNTED) change.sum = from->outcome.val.counted;
    return change;
}

void exports_consort_plugin_state_events_on_state_changed(
    exports_consort_plugin_state_events_list_change_t *from) {
    consort_change *changes = calloc(from->len ? from->len : 1, sizeof *changes);
    if (!changes) consort_panic("no memory for %zu changes of state", from->len);
    for (size_t i = 0; i < from->len; i++) changes[i] = change_of(&from->ptr[i]);
    consort_state_changed(changes, from->len);
    free(changes);
    exports_consort_plugin_state_events_list_change_free(from);
}

void exports_consort_plugin_state_events_on_writes_superseded(plugin_list_string_t *keys) {
    consort_writes_superseded(*keys);
    consort_texts_free(keys);
}

void exports_consort_plugin_timers_on_timer(uint64_t token,
                                            exports_consort_plugin_timers_group_time_t due) {
    consort_timer(token, due);
}

bool exports_consort_plugin_local_events_on_local_request(plugin_string_t *topic,
                                                          plugin_list_u8_t *payload,
                                                          plugin_list_u8_t *answer,
                                                          plugin_string_t *error) {
    *answer = (consort_bytes){0};
    *error = (consort_text){0};
    bool done = consort_local_request(*topic, *payload, answer, error);
    consort_text_free(topic);
    consort_bytes_free(payload);
    return done;
}

void exports_consort_plugin_handover_save(plugin_list_u8_t *saved) { *saved = consort_save(); }

bool exports_consort_plugin_handover_restore(plugin_list_u8_t *saved,
                                             plugin_string_t *from_version,
                                             plugin_string_t *error) {
    *error = (consort_text){0};
    bool done = consort_restore(*saved, *from_version, error);
    consort_bytes_free(saved);
    consort_text_free(from_version);
    return done;
}

/*
 * The bindings refer to an object file that would carry the component's type. The host knows the
 * contract and adds the type itself.
 */
void __component_type_object_force_link_plugin(void) {}

/* ---- Texts and errors. ---- */

static consort_text formatted(const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    consort_text text = {0};
    if (length <= 0) return text;
    text.ptr = malloc((size_t)length + 1);
    if (!text.ptr) abort();
    vsnprintf((char *)text.ptr, (size_t)length + 1, format, arguments);
    text.len = (size_t)length;
    return text;
}

bool consort_fail(consort_text *error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    *error = formatted(format, arguments);
    va_end(arguments);
    return false;
}

static void write_line(consort_level level, const char *format, va_list arguments) {
    consort_text line = formatted(format, arguments);
    consort_plugin_log_write((consort_plugin_log_level_t)level, &line);
    consort_text_free(&line);
}

void consort_log(consort_level level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(level, format, arguments);
    va_end(arguments);
}

_Noreturn void consort_panic(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(CONSORT_ERROR, format, arguments);
    va_end(arguments);
    abort();
}

const char *consort_describe(consort_status status) {
    static const char *const WORDS[] = {"ok",          "not-leader", "no-leader", "unknown-peer",
                                        "invalid-key", "too-large",  "busy"};
    static char text[40];
    if (status.code != CONSORT_TOO_LARGE) return WORDS[status.code];
    snprintf(text, sizeof text, "too-large %llu", (unsigned long long)status.limit);
    return text;
}

static consort_text borrowed(const char *text) {
    return (consort_text){(uint8_t *)text, strlen(text)};
}

static consort_bytes bytes(const void *from, size_t length) {
    return (consort_bytes){(uint8_t *)from, length};
}

/* ---- Configuration and group. ---- */

bool consort_config_get(const char *key, consort_text *value) {
    consort_text name = borrowed(key);
    return consort_plugin_config_get(&name, value);
}

consort_settings consort_config_entries(void) {
    consort_settings settings;
    consort_plugin_config_entries(&settings);
    return settings;
}

consort_peer consort_this_device(void) {
    consort_peer peer;
    consort_plugin_group_this_device(&peer);
    return peer;
}

consort_peers consort_group_peers(void) {
    consort_peers peers;
    consort_plugin_group_peers(&peers);
    return peers;
}

bool consort_group_leader(consort_leadership *leadership) {
    return consort_plugin_group_leader(leadership);
}

bool consort_is_leader(void) { return consort_plugin_group_is_leader(); }

/* ---- Messages. ---- */

static consort_status sent(bool done, consort_plugin_messages_send_error_t error) {
    static const consort_code CODES[] = {CONSORT_NOT_LEADER, CONSORT_NO_LEADER,
                                         CONSORT_UNKNOWN_PEER, CONSORT_TOO_LARGE, CONSORT_BUSY};
    if (done) return (consort_status){CONSORT_OK, 0};
    consort_code code = CODES[error.tag];
    return (consort_status){code, code == CONSORT_TOO_LARGE ? error.val.too_large : 0};
}

consort_status consort_broadcast(const void *payload, size_t length) {
    consort_bytes data = bytes(payload, length);
    consort_plugin_messages_send_error_t error = {0};
    bool done = consort_plugin_messages_broadcast(&data, &error);
    return sent(done, error);
}

consort_status consort_send_to_leader(const void *payload, size_t length) {
    consort_bytes data = bytes(payload, length);
    consort_plugin_messages_send_error_t error = {0};
    bool done = consort_plugin_messages_send_to_leader(&data, &error);
    return sent(done, error);
}

consort_status consort_send(consort_text device, const void *payload, size_t length) {
    consort_bytes data = bytes(payload, length);
    consort_plugin_messages_send_error_t error = {0};
    bool done = consort_plugin_messages_send(&device, &data, &error);
    return sent(done, error);
}

consort_status consort_send_to_all(const void *payload, size_t length) {
    consort_bytes data = bytes(payload, length);
    consort_plugin_messages_send_error_t error = {0};
    bool done = consort_plugin_messages_send_to_all(&data, &error);
    return sent(done, error);
}

/* ---- State. ---- */

static consort_status written(bool done, consort_plugin_state_types_write_error_t error) {
    static const consort_code CODES[] = {CONSORT_NOT_LEADER, CONSORT_INVALID_KEY,
                                         CONSORT_TOO_LARGE, CONSORT_BUSY};
    if (done) return (consort_status){CONSORT_OK, 0};
    consort_code code = CODES[error.tag];
    return (consort_status){code, code == CONSORT_TOO_LARGE ? error.val.too_large : 0};
}

/* Leader state and shared state have the same functions. */
#define KEYED_STATE(kind)                                                                        \
    bool consort_##kind##_get(const char *key, consort_bytes *value) {                           \
        consort_text name = borrowed(key);                                                       \
        return consort_plugin_##kind##_state_get(&name, value);                                  \
    }                                                                                            \
    consort_texts consort_##kind##_keys(const char *prefix) {                                    \
        consort_text begin = borrowed(prefix);                                                   \
        consort_texts keys;                                                                      \
        consort_plugin_##kind##_state_keys(&begin, &keys);                                       \
        return keys;                                                                             \
    }                                                                                            \
    consort_entries consort_##kind##_entries(const char *prefix) {                               \
        consort_text begin = borrowed(prefix);                                                   \
        consort_entries entries;                                                                 \
        consort_plugin_##kind##_state_entries(&begin, &entries);                                 \
        return entries;                                                                          \
    }

#define WRITTEN_STATE(kind)                                                                      \
    consort_status consort_##kind##_put(const char *key, const void *value, size_t length,       \
                                        uint64_t ttl) {                                          \
        consort_text name = borrowed(key);                                                       \
        consort_bytes data = bytes(value, length);                                               \
        consort_plugin_state_types_time_to_live_t life = {ttl != 0, ttl};                        \
        consort_plugin_state_types_write_error_t error = {0};                                    \
        bool done = consort_plugin_##kind##_state_put(&name, &data, &life, &error);              \
        return written(done, error);                                                             \
    }                                                                                            \
    consort_status consort_##kind##_delete(const char *key) {                                    \
        consort_text name = borrowed(key);                                                       \
        consort_plugin_state_types_write_error_t error = {0};                                    \
        bool done = consort_plugin_##kind##_state_delete(&name, &error);                         \
        return written(done, error);                                                             \
    }

KEYED_STATE(leader)
KEYED_STATE(shared)
WRITTEN_STATE(leader)
WRITTEN_STATE(shared)
WRITTEN_STATE(device)

bool consort_device_get(consort_text device, const char *key, consort_bytes *value) {
    consort_text name = borrowed(key);
    return consort_plugin_device_state_get(&device, &name, value);
}

consort_entries consort_device_collect(const char *key) {
    consort_text name = borrowed(key);
    consort_plugin_device_state_list_tuple2_device_id_list_u8_t found;
    consort_plugin_device_state_collect(&name, &found);
    /* A device id is a text: both lists have one layout. */
    _Static_assert(sizeof *found.ptr == sizeof *((consort_entries *)0)->ptr, "one layout");
    return (consort_entries){(plugin_tuple2_string_list_u8_t *)(void *)found.ptr, found.len};
}

consort_texts consort_device_keys(consort_text device, const char *prefix) {
    consort_text begin = borrowed(prefix);
    consort_texts keys;
    consort_plugin_device_state_keys(&device, &begin, &keys);
    return keys;
}

int64_t consort_counter_get(const char *name) {
    consort_text text = borrowed(name);
    return consort_plugin_counters_get(&text);
}

consort_status consort_counter_add(const char *name, int64_t delta, int64_t *sum) {
    consort_text text = borrowed(name);
    int64_t seen = 0;
    consort_plugin_state_types_write_error_t error = {0};
    bool done = consort_plugin_counters_add(&text, delta, &seen, &error);
    if (done && sum) *sum = seen;
    return written(done, error);
}

/* ---- Clock. ---- */

uint64_t consort_clock_now(void) { return consort_plugin_clock_now(); }

consort_clock_quality consort_clock_sync(void) {
    consort_clock_quality quality;
    consort_plugin_clock_quality(&quality);
    return quality;
}

void consort_wake_at(uint64_t at, uint64_t token) { consort_plugin_clock_wake_at(at, token); }

void consort_wake_every(uint64_t period, uint64_t token) {
    consort_plugin_clock_wake_every(period, token);
}

void consort_cancel(uint64_t token) { consort_plugin_clock_cancel(token); }

/* ---- Release. ---- */

void consort_text_free(consort_text *text) { plugin_string_free(text); }
void consort_bytes_free(consort_bytes *bytes) { plugin_list_u8_free(bytes); }
void consort_texts_free(consort_texts *texts) { plugin_list_string_free(texts); }
void consort_entries_free(consort_entries *entries) {
    plugin_list_tuple2_string_list_u8_free(entries);
}
void consort_settings_free(consort_settings *settings) {
    plugin_list_tuple2_string_string_free(settings);
}
void consort_peer_free(consort_peer *peer) { consort_plugin_types_peer_free(peer); }
void consort_peers_free(consort_peers *peers) { consort_plugin_group_list_peer_free(peers); }
void consort_leadership_free(consort_leadership *leadership) {
    consort_plugin_types_leadership_free(leadership);
}

/* ---- Programs on this same device. ---- */

void consort_local_publish(const char *topic, const void *payload, size_t length, bool retain) {
    consort_text name = borrowed(topic);
    consort_bytes data = bytes(payload, length);
    consort_plugin_local_publish(&name, &data, retain);
}
