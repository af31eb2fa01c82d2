/*
 * Write Consort plugins in C.
 *
 * A plugin defines the callbacks that it wants; those that it leaves out do nothing. The host calls
 * one callback at a time. What a callback is given belongs to the library and is freed when the
 * callback returns. What a call of the host returns belongs to the plugin: release it by the
 * function that ends in _free. Texts are UTF-8 and not terminated; print them by
 * printf("%.*s", CONSORT_TEXT(text)).
 */
#ifndef CONSORT_H
#define CONSORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A text of the host: .ptr and .len. */
typedef plugin_string_t consort_text;
/* Some bytes: .ptr and .len. */
typedef plugin_list_u8_t consort_bytes;
/* .ptr[i] is a text, i < .len. */
typedef plugin_list_string_t consort_texts;
/* .ptr[i].f0 is a key and .ptr[i].f1 its value, i < .len. */
typedef plugin_list_tuple2_string_list_u8_t consort_entries;
/* .ptr[i].f0 is a setting and .ptr[i].f1 its text, i < .len. */
typedef plugin_list_tuple2_string_string_t consort_settings;
/* .device, .name, .address, .is_self, .clock_delta, .round_trip */
typedef consort_plugin_types_peer_t consort_peer;
/* .ptr[i] is a peer, i < .len. */
typedef consort_plugin_group_list_peer_t consort_peers;
/* .leader and .term */
typedef consort_plugin_types_leadership_t consort_leadership;
/* .synchronised and .error_bound in microseconds */
typedef consort_plugin_clock_synchronisation_t consort_clock_quality;

/* The arguments that printf wants for "%.*s". */
#define CONSORT_TEXT(text) (int)(text).len, (const char *)(text).ptr

typedef enum { CONSORT_STOP, CONSORT_RELOAD, CONSORT_REMOVE } consort_reason;

typedef enum { CONSORT_LEADER, CONSORT_DEVICE, CONSORT_SHARED, CONSORT_COUNTER } consort_origin;

typedef enum { CONSORT_PUT, CONSORT_COUNTED, CONSORT_DELETED, CONSORT_EXPIRED } consort_outcome;

/* One key that changed. */
typedef struct {
    consort_origin origin;
    consort_text device; /* Whose state, for CONSORT_DEVICE. */
    consort_text key;
    consort_outcome outcome;
    consort_bytes value; /* What was written, for CONSORT_PUT. */
    int64_t sum;         /* The counter's new sum, for CONSORT_COUNTED. */
} consort_change;

/* ---- Callbacks, for the plugin to define. ---- */

/* Once, before any other callback. False, with consort_fail, rejects the plugin or the reload. */
bool consort_setup(consort_text *error);
/* Before an orderly unload. A fault or a power cut skips it. */
void consort_shutdown(consort_reason reason);
/* This device leads from here on. */
void consort_promote_leader(const consort_leadership *leadership);
/* This device leads no longer. Timers stay set. */
void consort_demote_leader(void);
/* Another device leads from here on. */
void consort_promote_follower(const consort_leadership *leadership);
/* The device that led is lost or was replaced. */
void consort_demote_follower(void);
/* A device joined the group; this device is the first. */
void consort_peer_added(const consort_peer *peer);
/* A device left the group. */
void consort_peer_removed(const consort_peer *peer);
/* From the leader's consort_broadcast, on every member including the leader. */
void consort_leader_message(consort_bytes payload, const consort_leadership *sender);
/* From any member's consort_send_to_leader, consort_send or consort_send_to_all. */
void consort_peer_message(consort_bytes payload, const consort_peer *sender);
/* What changed since the last call, without this device's own writes; each key once. */
void consort_state_changed(const consort_change *changes, size_t count);
/* Leader-state keys that this device wrote as leader and the group did not adopt. */
void consort_writes_superseded(consort_texts keys);
/* A timer is due. `due` is when it was to fire, in group time. */
void consort_timer(uint64_t token, uint64_t due);
/*
 * A request of a program on this device. True with the answer: memory of malloc, which the library
 * frees; false, with consort_fail, refuses.
 */
bool consort_local_request(consort_text topic, consort_bytes payload, consort_bytes *answer,
                           consort_text *error);
/* What the next version is to know: memory of malloc, which the library frees. */
consort_bytes consort_save(void);
/* What the version `from_version` saved, after setup. False, with consort_fail, ends the reload. */
bool consort_restore(consort_bytes saved, consort_text from_version, consort_text *error);

/* ---- Errors. ---- */

/* Sets the text of a refusal as printf does, and returns false. */
bool consort_fail(consort_text *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

typedef enum {
    CONSORT_OK,
    CONSORT_NOT_LEADER,   /* Only the leader may do this. */
    CONSORT_NO_LEADER,    /* No leader is known at the moment. */
    CONSORT_UNKNOWN_PEER, /* No such member. */
    CONSORT_INVALID_KEY,  /* Empty, longer than 256 bytes, or reserved. */
    CONSORT_TOO_LARGE,    /* Beyond a limit, given in bytes. */
    CONSORT_BUSY          /* A queue or quota is full; nothing was done. */
} consort_code;

/* What came of a call: .code is CONSORT_OK, which is 0, or says why not. */
typedef struct {
    consort_code code;
    uint64_t limit; /* In bytes, for CONSORT_TOO_LARGE. */
} consort_status;

/* The contract's words for it, such as "too-large 65536"; valid until the next call. */
const char *consort_describe(consort_status status);

/* ---- The log, tagged with this plugin's id. ---- */

typedef enum {
    CONSORT_TRACE,
    CONSORT_DEBUG,
    CONSORT_INFO,
    CONSORT_WARN,
    CONSORT_ERROR
} consort_level;

/* Logs as printf does. */
void consort_log(consort_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define consort_trace(...) consort_log(CONSORT_TRACE, __VA_ARGS__)
#define consort_debug(...) consort_log(CONSORT_DEBUG, __VA_ARGS__)
#define consort_info(...) consort_log(CONSORT_INFO, __VA_ARGS__)
#define consort_warn(...) consort_log(CONSORT_WARN, __VA_ARGS__)
#define consort_error(...) consort_log(CONSORT_ERROR, __VA_ARGS__)

/* Logs as an error and ends this instance; the host starts another. */
_Noreturn void consort_panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- The [config] table. ---- */

/* The value of a setting; false if it is not set. */
bool consort_config_get(const char *key, consort_text *value);
consort_settings consort_config_entries(void);

/* ---- The group, as this device sees it. ---- */

consort_peer consort_this_device(void);
/* Every member that runs this plugin, this device included, ordered by device id. */
consort_peers consort_group_peers(void);
/* The leader as this device knows it; false while an election is under way. */
bool consort_group_leader(consort_leadership *leadership);
bool consort_is_leader(void);

/* ---- Messages: at most once, in no order; a lost one is not resent. ---- */

/* Leader to every member, this device included. */
consort_status consort_broadcast(const void *payload, size_t length);
/* Any member to the leader; on the leader itself a local delivery. */
consort_status consort_send_to_leader(const void *payload, size_t length);
/* Any member to the member with this device id. */
consort_status consort_send(consort_text device, const void *payload, size_t length);
/* Any member to every member, this device included. */
consort_status consort_send_to_all(const void *payload, size_t length);

/* ---- State. A time to live counts in milliseconds; 0 keeps the entry. ---- */

/* Written by the leader, read by everyone; it outlives its leader. */
bool consort_leader_get(const char *key, consort_bytes *value);
consort_texts consort_leader_keys(const char *prefix);
consort_entries consort_leader_entries(const char *prefix);
consort_status consort_leader_put(const char *key, const void *value, size_t length, uint64_t ttl);
consort_status consort_leader_delete(const char *key);

/* Written by each device for itself, read by everyone. */
bool consort_device_get(consort_text device, const char *key, consort_bytes *value);
/* The value under `key` of every device that has one, by device id. */
consort_entries consort_device_collect(const char *key);
consort_texts consort_device_keys(consort_text device, const char *prefix);
consort_status consort_device_put(const char *key, const void *value, size_t length, uint64_t ttl);
consort_status consort_device_delete(const char *key);

/* Written by anyone; of two writes the later one wins on every device. */
bool consort_shared_get(const char *key, consort_bytes *value);
consort_texts consort_shared_keys(const char *prefix);
consort_entries consort_shared_entries(const char *prefix);
consort_status consort_shared_put(const char *key, const void *value, size_t length, uint64_t ttl);
consort_status consort_shared_delete(const char *key);

/* Added to by anyone, also while cut off; no increment is lost or counted twice. */
int64_t consort_counter_get(const char *name);
/* The sum as this device sees it goes to `sum`, if that is not null. */
consort_status consort_counter_add(const char *name, int64_t delta, int64_t *sum);

/* ---- The group's clock, in microseconds since the Unix epoch. ---- */

/* It never runs backwards within one run of a plugin. */
uint64_t consort_clock_now(void);
consort_clock_quality consort_clock_sync(void);
/* consort_timer at `at`, or at once if that has passed. Setting a token again replaces its timer. */
void consort_wake_at(uint64_t at, uint64_t token);
/* consort_timer at multiples of `period`, at the same instants on every device. */
void consort_wake_every(uint64_t period, uint64_t token);
void consort_cancel(uint64_t token);

/* ---- Programs on this same device, for plugins with the capability local. ---- */

/*
 * To every local subscriber of `topic`; never leaves the device. With `retain`, also to those that
 * subscribe later, until something else is published there.
 */
void consort_local_publish(const char *topic, const void *payload, size_t length, bool retain);

/* ---- Release of what the host returned. ---- */

void consort_text_free(consort_text *text);
void consort_bytes_free(consort_bytes *bytes);
void consort_texts_free(consort_texts *texts);
void consort_entries_free(consort_entries *entries);
void consort_settings_free(consort_settings *settings);
void consort_peer_free(consort_peer *peer);
void consort_peers_free(consort_peers *peers);
void consort_leadership_free(consort_leadership *leadership);

#ifdef __cplusplus
}
#endif
#endif
