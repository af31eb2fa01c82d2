/*
 * The tour: every callback and every call of the host, once, in the same words in every language.
 *
 * It greets its peers, tells what it hears, and does what messages of the form {"op": ...} ask for.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "consort.h"
#include "consort_pack.h"

enum { ONCE = 1, ALWAYS, NEVER };

static uint64_t heard;

static const char *yes(bool answer) { return answer ? "yes" : "no"; }

/* {"op": "hello", "from": <this device>}; the caller frees it. */
static consort_packer hello(void) {
    consort_peer self = consort_this_device();
    consort_packer packer = {0};
    consort_pack_map(&packer, 2);
    consort_pack_text(&packer, "op");
    consort_pack_text(&packer, "hello");
    consort_pack_text(&packer, "from");
    consort_pack_text_n(&packer, self.name);
    consort_peer_free(&self);
    return packer;
}

/* The text under `key` of a map; empty if there is none. */
static consort_text field(consort_reader map, const char *key) {
    consort_reader at;
    if (!consort_unpack_find(map, key, &at)) return (consort_text){0};
    consort_value value = consort_unpack_next(&at);
    return value.kind == CONSORT_TEXT_VALUE ? value.as.text : (consort_text){0};
}

/* With the setting "chance": the clock and the randomness that the language has by itself. */
static void tell_chance(void) {
    consort_text setting;
    if (!consort_config_get("chance", &setting)) return;
    consort_text_free(&setting);
    struct timespec now;
    uint64_t random;
    if (clock_gettime(CLOCK_REALTIME, &now) || getentropy(&random, sizeof random)) {
        consort_panic("neither clock nor randomness");
    }
    int64_t nanoseconds = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    consort_info("chance: %016" PRIx64 " at %" PRId64, random, nanoseconds);
}

bool consort_setup(consort_text *error) {
    consort_text refusal;
    if (consort_config_get("refuse", &refusal)) {
        consort_fail(error, "refused: %.*s", CONSORT_TEXT(refusal));
        consort_text_free(&refusal);
        return false;
    }
    consort_trace("a trace");
    consort_debug("a detail");
    consort_settings settings = consort_config_entries();
    consort_text greeting = {0};
    consort_config_get("greeting", &greeting);
    consort_info("setup: %zu settings, greeting %.*s", settings.len, CONSORT_TEXT(greeting));
    consort_text_free(&greeting);
    consort_settings_free(&settings);
    consort_wake_at(consort_clock_now() + 1000000, ONCE);
    consort_wake_every(10000000, ALWAYS);
    consort_wake_at(consort_clock_now() + 1000000, NEVER);
    consort_cancel(NEVER);
    tell_chance();
    return true;
}

void consort_shutdown(consort_reason reason) {
    static const char *const WORDS[] = {"stop", "reload", "remove"};
    consort_info("shutdown: %s", WORDS[reason]);
}

void consort_promote_leader(const consort_leadership *leadership) {
    consort_info("promote-leader: %.*s in term %" PRIu64, CONSORT_TEXT(leadership->leader.name),
                 leadership->term);
    consort_packer packer = hello();
    consort_status status = consort_broadcast(packer.data, packer.length);
    consort_info("broadcast: %s", consort_describe(status));
    status = consort_leader_put("hello", packer.data, packer.length, 0);
    consort_info("leader-state: hello %s", consort_describe(status));
    status = consort_shared_put("hello", packer.data, packer.length, 0);
    consort_info("shared-state: hello %s", consort_describe(status));
    int64_t tenures = 0;
    consort_counter_add("tenures", 1, &tenures);
    consort_info("counters: tenures %" PRId64, tenures);
    consort_pack_free(&packer);
}

void consort_demote_leader(void) {
    consort_info("demote-leader: leading %s", yes(consort_is_leader()));
}

/* Adds to a text that is terminated, as much of it as there is room for. */
static void append(char *line, size_t size, const char *before, consort_text text) {
    size_t used = strlen(line);
    snprintf(line + used, size - used, "%s%.*s", before, CONSORT_TEXT(text));
}

/* Who has a greeting in its state. */
static void tell_hellos(void) {
    char names[400] = "";
    consort_entries hellos = consort_device_collect("hello");
    for (size_t i = 0; i < hellos.len; i++) {
        consort_reader reader;
        if (!consort_unpack_begin(&reader, hellos.ptr[i].f1)) continue;
        append(names, sizeof names, i ? "," : "", field(reader, "from"));
    }
    consort_info("device-state: hello from %s", names);
    consort_entries_free(&hellos);
}

void consort_promote_follower(const consort_leadership *leadership) {
    consort_info("promote-follower: %.*s in term %" PRIu64, CONSORT_TEXT(leadership->leader.name),
                 leadership->term);
    consort_packer packer = hello();
    consort_status status = consort_send_to_leader(packer.data, packer.length);
    consort_info("send-to-leader: %s", consort_describe(status));
    consort_pack_free(&packer);
    tell_hellos();
}

void consort_demote_follower(void) { consort_info("demote-follower"); }

static void tell_peer(const char *what, const consort_peer *peer) {
    consort_peers peers = consort_group_peers();
    consort_info("%s: %.*s of %zu", what, CONSORT_TEXT(peer->name), peers.len);
    consort_peers_free(&peers);
}

void consort_peer_added(const consort_peer *peer) {
    tell_peer("peer-added", peer);
    consort_packer packer = hello();
    if (peer->is_self) {
        consort_status status = consort_device_put("hello", packer.data, packer.length, 0);
        consort_info("device-state: hello %s", consort_describe(status));
    } else {
        consort_status status = consort_send(peer->device, packer.data, packer.length);
        consort_info("send: %s", consort_describe(status));
    }
    consort_pack_free(&packer);
}

void consort_peer_removed(const consort_peer *peer) { tell_peer("peer-removed", peer); }

void consort_leader_message(consort_bytes payload, const consort_leadership *sender) {
    heard++;
    consort_reader reader;
    if (consort_unpack_begin(&reader, payload)) {
        consort_info("leader-message: hello from %.*s in term %" PRIu64,
                     CONSORT_TEXT(field(reader, "from")), sender->term);
    } else {
        consort_info("leader-message: no MessagePack in term %" PRIu64, sender->term);
    }
}

/* Reads a value and writes it again. */
static void copy(consort_reader *from, consort_packer *to) {
    consort_value value = consort_unpack_next(from);
    switch (value.kind) {
    case CONSORT_NIL: consort_pack_nil(to); break;
    case CONSORT_BOOL: consort_pack_bool(to, value.as.boolean); break;
    case CONSORT_UINT: consort_pack_uint(to, value.as.u); break;
    case CONSORT_INT: consort_pack_int(to, value.as.i); break;
    case CONSORT_DOUBLE: consort_pack_double(to, value.as.number); break;
    case CONSORT_TEXT_VALUE: consort_pack_text_n(to, value.as.text); break;
    case CONSORT_BINARY:
        consort_pack_binary(to, value.as.binary.ptr, value.as.binary.len);
        break;
    case CONSORT_ARRAY:
        consort_pack_array(to, value.as.count);
        for (uint32_t i = 0; i < value.as.count; i++) copy(from, to);
        break;
    case CONSORT_MAP:
        consort_pack_map(to, value.as.count);
        for (uint32_t i = 0; i < 2 * value.as.count; i++) copy(from, to);
        break;
    }
}

static void echo(consort_reader request, const consort_peer *sender) {
    consort_reader value;
    if (!consort_unpack_find(request, "value", &value)) return;
    consort_packer packer = {0};
    consort_pack_map(&packer, 2);
    consort_pack_text(&packer, "op");
    consort_pack_text(&packer, "echoed");
    consort_pack_text(&packer, "value");
    copy(&value, &packer);
    consort_status status = consort_send(sender->device, packer.data, packer.length);
    consort_info("echo: %s", consort_describe(status));
    consort_pack_free(&packer);
}

static void tell_group(void) {
    consort_leadership leader;
    if (consort_group_leader(&leader)) {
        consort_info("group: leader %.*s in term %" PRIu64 ", leading %s",
                     CONSORT_TEXT(leader.leader.name), leader.term, yes(consort_is_leader()));
        consort_leadership_free(&leader);
    } else {
        consort_info("group: leader none, leading %s", yes(consort_is_leader()));
    }
    consort_peers peers = consort_group_peers();
    for (size_t i = 0; i < peers.len; i++) {
        const consort_peer *peer = &peers.ptr[i];
        consort_info("group: %.*s at %.*s, self %s, delta %" PRId64 ", round trip %" PRIu32,
                     CONSORT_TEXT(peer->name), CONSORT_TEXT(peer->address), yes(peer->is_self),
                     peer->clock_delta, peer->round_trip);
    }
    consort_peers_free(&peers);
}

static void tell_time(void) {
    consort_clock_quality quality = consort_clock_sync();
    consort_info("time: synchronised %s, bound %" PRIu64, yes(quality.synchronised),
                 quality.error_bound);
    consort_info("time: %s", yes(consort_clock_now() > 1600000000000000));
}

static void tell_errors(void) {
    static uint8_t large[70000];
    consort_packer packer = hello();
    consort_text nobody = {(uint8_t *)"nobody", 6};
    consort_error("broadcast: %s", consort_describe(consort_broadcast(packer.data, packer.length)));
    consort_error("send: %s", consort_describe(consort_send(nobody, packer.data, packer.length)));
    consort_error("send-to-all: %s", consort_describe(consort_send_to_all(large, sizeof large)));
    consort_error("put: %s", consort_describe(consort_shared_put("", NULL, 0, 0)));
    consort_pack_free(&packer);
}

/* "<kind>: <value> <first key> <first entry>" of a state with at most one key. */
static void tell_state(const char *kind, bool found, consort_bytes value, consort_texts keys,
                       consort_entries entries, bool with_key) {
    consort_text none = {(uint8_t *)"none", 4};
    consort_text shown = found ? (consort_text){value.ptr, value.len} : none;
    consort_text key = keys.len ? keys.ptr[0] : (consort_text){0};
    consort_text entry = {0};
    consort_text entry_key = {0};
    if (entries.len) {
        entry = (consort_text){entries.ptr[0].f1.ptr, entries.ptr[0].f1.len};
        if (with_key) entry_key = entries.ptr[0].f0;
    }
    consort_info("%s: %.*s %.*s %.*s%s%.*s", kind, CONSORT_TEXT(shown), CONSORT_TEXT(key),
                 CONSORT_TEXT(entry_key), entry_key.len ? "=" : "", CONSORT_TEXT(entry));
    if (found) consort_bytes_free(&value);
    consort_texts_free(&keys);
    consort_entries_free(&entries);
}

static void use_leader_state(void) {
    consort_status status = consort_leader_put("motto", "onward", 6, 0);
    consort_info("leader-state: put %s", consort_describe(status));
    consort_bytes value;
    bool found = consort_leader_get("motto", &value);
    tell_state("leader-state", found, value, consort_leader_keys("mo"),
               consort_leader_entries("mo"), true);
    consort_info("leader-state: delete %s", consort_describe(consort_leader_delete("motto")));
}

static void use_device_state(void) {
    consort_peer self = consort_this_device();
    consort_status status = consort_device_put("mood", "calm", 4, 60000);
    consort_info("device-state: put %s", consort_describe(status));
    consort_bytes value;
    bool found = consort_device_get(self.device, "mood", &value);
    tell_state("device-state", found, value, consort_device_keys(self.device, "mo"),
               consort_device_collect("mood"), false);
    consort_info("device-state: delete %s", consort_describe(consort_device_delete("mood")));
    consort_peer_free(&self);
}

static void use_shared_state(void) {
    consort_status status = consort_shared_put("colour", "red", 3, 0);
    consort_info("shared-state: put %s", consort_describe(status));
    consort_bytes value;
    bool found = consort_shared_get("colour", &value);
    tell_state("shared-state", found, value, consort_shared_keys("co"),
               consort_shared_entries("co"), true);
    consort_info("shared-state: delete %s", consort_describe(consort_shared_delete("colour")));
}

static void use_counters(void) {
    int64_t sum = 0;
    consort_counter_add("visits", 2, &sum);
    consort_info("counters: add %" PRId64, sum);
    consort_info("counters: %" PRId64, consort_counter_get("visits"));
}

static void use_local(void) {
    consort_packer packer = hello();
    consort_local_publish("moment", "now", 3, false);
    consort_local_publish("hello", packer.data, packer.length, true);
    consort_info("local: published yes");
    consort_pack_free(&packer);
}

void consort_peer_message(consort_bytes payload, const consort_peer *sender) {
    heard++;
    consort_reader reader;
    if (!consort_unpack_begin(&reader, payload)) {
        consort_warn("peer-message: no MessagePack");
        return;
    }
    consort_value op = {.kind = CONSORT_TEXT_VALUE, .as.text = field(reader, "op")};
    if (consort_is_text(op, "hello")) {
        consort_info("peer-message: hello from %.*s", CONSORT_TEXT(field(reader, "from")));
    } else if (consort_is_text(op, "echo")) {
        echo(reader, sender);
    } else if (consort_is_text(op, "group")) {
        tell_group();
    } else if (consort_is_text(op, "time")) {
        tell_time();
    } else if (consort_is_text(op, "errors")) {
        tell_errors();
    } else if (consort_is_text(op, "state")) {
        use_leader_state();
        use_device_state();
        use_shared_state();
        use_counters();
    } else if (consort_is_text(op, "local")) {
        use_local();
    } else if (consort_is_text(op, "fault")) {
        consort_panic("asked to fail");
    } else {
        consort_warn("peer-message: unknown");
    }
}

/* What was put; of a greeting, from whom. */
static void tell_put(const char *what, const consort_change *change) {
    consort_value key = {.kind = CONSORT_TEXT_VALUE, .as.text = change->key};
    consort_reader reader;
    if (!consort_is_text(key, "hello")) {
        consort_info("%s put %.*s", what, CONSORT_TEXT(change->value));
    } else if (consort_unpack_begin(&reader, change->value)) {
        consort_info("%s put hello from %.*s", what, CONSORT_TEXT(field(reader, "from")));
    } else {
        consort_info("%s put no MessagePack", what);
    }
}

void consort_state_changed(const consort_change *changes, size_t count) {
    static const char *const ORIGINS[] = {"leader", "device", "shared", "counter"};
    for (size_t i = 0; i < count; i++) {
        const consort_change *change = &changes[i];
        char what[300];
        /* The device is empty but for device-state. */
        snprintf(what, sizeof what, "state-changed: %s%s%.*s %.*s", ORIGINS[change->origin],
                 change->device.len ? " " : "", CONSORT_TEXT(change->device),
                 CONSORT_TEXT(change->key));
        switch (change->outcome) {
        case CONSORT_PUT: tell_put(what, change); break;
        case CONSORT_COUNTED: consort_info("%s counted %" PRId64, what, change->sum); break;
        case CONSORT_DELETED: consort_info("%s deleted", what); break;
        case CONSORT_EXPIRED: consort_info("%s expired", what); break;
        }
    }
}

void consort_writes_superseded(consort_texts keys) {
    char line[200] = "";
    for (size_t i = 0; i < keys.len; i++) append(line, sizeof line, i ? "," : "", keys.ptr[i]);
    consort_info("writes-superseded: %s", line);
}

void consort_timer(uint64_t token, uint64_t due) {
    consort_info("timer: %" PRIu64 " due %s", token, yes(due <= consort_clock_now()));
    tell_chance();
}

bool consort_local_request(consort_text topic, consort_bytes payload, consort_bytes *answer,
                           consort_text *error) {
    consort_info("local-request: %.*s with %zu bytes", CONSORT_TEXT(topic), payload.len);
    consort_value name = {.kind = CONSORT_TEXT_VALUE, .as.text = topic};
    if (!consort_is_text(name, "echo")) {
        return consort_fail(error, "refused: %.*s", CONSORT_TEXT(topic));
    }
    if (payload.len == 0) return true;
    answer->ptr = malloc(payload.len);
    if (!answer->ptr) consort_panic("no memory for an answer");
    memcpy(answer->ptr, payload.ptr, payload.len);
    answer->len = payload.len;
    return true;
}

consort_bytes consort_save(void) {
    consort_info("save: %" PRIu64, heard);
    consort_packer packer = {0};
    consort_pack_map(&packer, 1);
    consort_pack_text(&packer, "heard");
    consort_pack_uint(&packer, heard);
    return (consort_bytes){packer.data, packer.length};
}

bool consort_restore(consort_bytes saved, consort_text from_version, consort_text *error) {
    consort_reader reader, value;
    if (!consort_unpack_begin(&reader, saved)) {
        return consort_fail(error, "restore: no MessagePack");
    }
    if (consort_unpack_find(reader, "heard", &value)) {
        heard = consort_unpack_next(&value).as.u;
    }
    consort_info("restore: %" PRIu64 " from %.*s", heard, CONSORT_TEXT(from_version));
    return true;
}
