/* Says who leads, and greets the group when this device does. */
#include <inttypes.h>

#include "consort.h"
#include "consort_pack.h"

bool consort_setup(consort_text *error) {
    (void)error; /* Refuse by: return consort_fail(error, "why"); */
    consort_info("{{name}} is set up");
    return true;
}

void consort_promote_leader(const consort_leadership *leadership) {
    consort_info("leader in term %" PRIu64, leadership->term);
    consort_peer self = consort_this_device();
    consort_packer packer = {0};
    consort_pack_map(&packer, 1);
    consort_pack_text(&packer, "greeting");
    consort_pack_text_n(&packer, self.name);
    consort_broadcast(packer.data, packer.length);
    consort_pack_free(&packer);
    consort_peer_free(&self);
}

void consort_promote_follower(const consort_leadership *leadership) {
    consort_info("following %.*s", CONSORT_TEXT(leadership->leader.name));
}

void consort_leader_message(consort_bytes payload, const consort_leadership *sender) {
    consort_reader message, greeting;
    if (consort_unpack_begin(&message, payload) &&
        consort_unpack_find(message, "greeting", &greeting)) {
        consort_value name = consort_unpack_next(&greeting);
        if (name.kind == CONSORT_TEXT_VALUE) {
            consort_info("greeted by %.*s in term %" PRIu64, CONSORT_TEXT(name.as.text),
                         sender->term);
        }
    }
}
