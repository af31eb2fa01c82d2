// The template's plugin in C++: it says who leads, and greets the group when this device does.
#include <string>

#include "consort.h"
#include "consort_pack.h"

namespace {

std::string text(consort_text of) {
    return {reinterpret_cast<const char *>(of.ptr), of.len};
}

// MessagePack that is freed at the end of its scope.
class Packed {
public:
    Packed() = default;
    Packed(const Packed &) = delete;
    Packed &operator=(const Packed &) = delete;
    ~Packed() { consort_pack_free(&packer_); }
    consort_packer *get() { return &packer_; }
    consort_status broadcast() const { return consort_broadcast(packer_.data, packer_.length); }

private:
    consort_packer packer_{};
};

}  // namespace

// The header's declarations make these functions callbacks, with C's linkage.

bool consort_setup(consort_text *) {
    consort_info("hello is set up");
    return true;
}

void consort_promote_leader(const consort_leadership *leadership) {
    consort_info("%s", ("leader in term " + std::to_string(leadership->term)).c_str());
    consort_peer self = consort_this_device();
    Packed greeting;
    consort_pack_map(greeting.get(), 1);
    consort_pack_text(greeting.get(), "greeting");
    consort_pack_text_n(greeting.get(), self.name);
    greeting.broadcast();
    consort_peer_free(&self);
}

void consort_promote_follower(const consort_leadership *leadership) {
    consort_info("%s", ("following " + text(leadership->leader.name)).c_str());
}

void consort_leader_message(consort_bytes payload, const consort_leadership *sender) {
    consort_reader message, greeting;
    if (!consort_unpack_begin(&message, payload) ||
        !consort_unpack_find(message, "greeting", &greeting)) {
        return;
    }
    consort_value name = consort_unpack_next(&greeting);
    if (name.kind != CONSORT_TEXT_VALUE) return;
    auto line = "greeted by " + text(name.as.text) + " in term " + std::to_string(sender->term);
    consort_info("%s", line.c_str());
}
