// The tour: every callback and every call of the host, once, in the same words in every language.
//
// It greets its peers, tells what it hears, and does what messages of the form {"op": ...} ask for.
package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	consort "github.com/consort-host/consort/guest-sdk/go"
	"github.com/consort-host/consort/guest-sdk/go/payload"
)

const (
	once = iota + 1
	always
	never
)

type tour struct {
	consort.Defaults
	heard int64
}

func init() { consort.Register(&tour{}) }

func main() {}

func hello() []byte {
	return payload.Must(payload.Fields{{"op", "hello"}, {"from", consort.ThisDevice().Name}})
}

func yes(answer bool) string {
	if answer {
		return "yes"
	}
	return "no"
}

// outcome gives the contract's words for what came of a call.
func outcome(err error) string {
	if err != nil {
		return err.Error()
	}
	return "ok"
}

func text(value []byte, found bool) string {
	if !found {
		return "none"
	}
	return string(value)
}

// from gives who says hello; it is empty if that is none.
func from(message []byte) string {
	value, _ := payload.Decode(message)
	fields, _ := value.(map[string]any)
	name, _ := fields["from"].(string)
	return name
}

func told(message []byte) string {
	if name := from(message); name != "" {
		return "hello from " + name
	}
	return "no MessagePack"
}

func (*tour) Setup() error {
	if refusal, set := consort.Config("refuse"); set {
		return errors.New("refused: " + refusal)
	}
	consort.Tracef("a trace")
	consort.Debugf("a detail")
	greeting, _ := consort.Config("greeting")
	consort.Infof("setup: %d settings, greeting %s", len(consort.Configs()), greeting)
	consort.WakeAt(consort.Now()+1_000_000, once)
	consort.WakeEvery(10_000_000, always)
	consort.WakeAt(consort.Now()+1_000_000, never)
	consort.Cancel(never)
	tellChance()
	return nil
}

func (*tour) Shutdown(reason consort.Reason) { consort.Infof("shutdown: %s", reason) }

func (*tour) PromoteLeader(leadership consort.Leadership) {
	consort.Infof("promote-leader: %s in term %d", leadership.Leader.Name, leadership.Term)
	consort.Infof("broadcast: %s", outcome(consort.Broadcast(hello())))
	consort.Infof("leader-state: hello %s", outcome(consort.LeaderState.Put("hello", hello(), 0)))
	consort.Infof("shared-state: hello %s", outcome(consort.SharedState.Put("hello", hello(), 0)))
	tenures, _ := consort.AddToCounter("tenures", 1)
	consort.Infof("counters: tenures %d", tenures)
}

func (*tour) DemoteLeader() { consort.Infof("demote-leader: leading %s", yes(consort.IsLeader())) }

func (*tour) PromoteFollower(leadership consort.Leadership) {
	consort.Infof("promote-follower: %s in term %d", leadership.Leader.Name, leadership.Term)
	consort.Infof("send-to-leader: %s", outcome(consort.SendToLeader(hello())))
	var names []string
	for _, entry := range consort.DeviceState.Collect("hello") {
		names = append(names, from(entry.Value))
	}
	consort.Infof("device-state: hello from %s", strings.Join(names, ","))
}

func (*tour) DemoteFollower() { consort.Infof("demote-follower") }

func (*tour) PeerAdded(peer consort.Peer) {
	consort.Infof("peer-added: %s of %d", peer.Name, len(consort.Peers()))
	if peer.IsSelf {
		consort.Infof("device-state: hello %s", outcome(consort.DeviceState.Put("hello", hello(), 0)))
	} else {
		consort.Infof("send: %s", outcome(consort.Send(peer.Device, hello())))
	}
}

func (*tour) PeerRemoved(peer consort.Peer) {
	consort.Infof("peer-removed: %s of %d", peer.Name, len(consort.Peers()))
}

func (t *tour) LeaderMessage(message []byte, sender consort.Leadership) {
	t.heard++
	consort.Infof("leader-message: %s in term %d", told(message), sender.Term)
}

func (t *tour) PeerMessage(message []byte, sender consort.Peer) {
	t.heard++
	value, err := payload.Decode(message)
	if err != nil {
		consort.Warnf("peer-message: no MessagePack")
		return
	}
	request, _ := value.(map[string]any)
	switch request["op"] {
	case "hello":
		consort.Infof("peer-message: hello from %s", request["from"])
	case "echo":
		answer := payload.Must(payload.Fields{{"op", "echoed"}, {"value", request["value"]}})
		consort.Infof("echo: %s", outcome(consort.Send(sender.Device, answer)))
	case "group":
		tellGroup()
	case "time":
		tellTime()
	case "errors":
		tellErrors()
	case "state":
		useState()
	case "local":
		useLocal()
	case "fault":
		panic("asked to fail")
	default:
		consort.Warnf("peer-message: unknown")
	}
}

func (*tour) StateChanged(changes []consort.Change) {
	for _, change := range changes {
		origin := change.Origin.String()
		if change.Origin == consort.FromDevice {
			origin += " " + change.Device
		}
		consort.Infof("state-changed: %s %s %s", origin, change.Key, describe(change))
	}
}

func describe(change consort.Change) string {
	switch {
	case change.Outcome == consort.Put && change.Key == "hello":
		return "put " + told(change.Value)
	case change.Outcome == consort.Put:
		return "put " + string(change.Value)
	case change.Outcome == consort.Counted:
		return fmt.Sprintf("counted %d", change.Sum)
	default:
		return change.Outcome.String()
	}
}

func (*tour) WritesSuperseded(keys []string) {
	consort.Infof("writes-superseded: %s", strings.Join(keys, ","))
}

func (*tour) Timer(token, due uint64) {
	consort.Infof("timer: %d due %s", token, yes(due <= consort.Now()))
	tellChance()
}

func (*tour) LocalRequest(topic string, payload []byte) ([]byte, error) {
	consort.Infof("local-request: %s with %d bytes", topic, len(payload))
	if topic == "echo" {
		return payload, nil
	}
	return nil, errors.New("refused: " + topic)
}

func (t *tour) Save() []byte {
	consort.Infof("save: %d", t.heard)
	return payload.Must(payload.Fields{{"heard", t.heard}})
}

func (t *tour) Restore(saved []byte, fromVersion string) error {
	value, err := payload.Decode(saved)
	if err != nil {
		return errors.New("restore: no MessagePack")
	}
	if fields, ok := value.(map[string]any); ok {
		t.heard, _ = fields["heard"].(int64)
	}
	consort.Infof("restore: %d from %s", t.heard, fromVersion)
	return nil
}

func tellGroup() {
	led := "none"
	if leader, known := consort.Leader(); known {
		led = fmt.Sprintf("%s in term %d", leader.Leader.Name, leader.Term)
	}
	consort.Infof("group: leader %s, leading %s", led, yes(consort.IsLeader()))
	for _, peer := range consort.Peers() {
		consort.Infof("group: %s at %s, self %s, delta %d, round trip %d",
			peer.Name, peer.Address, yes(peer.IsSelf), peer.ClockDelta, peer.RoundTrip)
	}
}

func tellTime() {
	synchronised, errorBound := consort.ClockQuality()
	consort.Infof("time: synchronised %s, bound %d", yes(synchronised), errorBound)
	consort.Infof("time: %s", yes(consort.Now() > 1_600_000_000_000_000))
}

// tellChance, with the setting "chance", tells the clock and the randomness that the language has by
// itself.
func tellChance() {
	if _, set := consort.Config("chance"); set {
		consort.Infof("chance: %016x at %d", rand.Uint64(), time.Now().UnixNano())
	}
}

func tellErrors() {
	consort.Errorf("broadcast: %s", outcome(consort.Broadcast(hello())))
	consort.Errorf("send: %s", outcome(consort.Send("nobody", hello())))
	consort.Errorf("send-to-all: %s", outcome(consort.SendToAll(make([]byte, 70_000))))
	consort.Errorf("put: %s", outcome(consort.SharedState.Put("", nil, 0)))
}

// tellKeyed writes, reads, lists and deletes one key of a state.
func tellKeyed(name string, state consort.KeyedState, key, value string) {
	consort.Infof("%s: put %s", name, outcome(state.Put(key, []byte(value), 0)))
	var listed []string
	for _, entry := range state.Entries(key[:2]) {
		listed = append(listed, entry.Key+"="+string(entry.Value))
	}
	consort.Infof("%s: %s %s %s", name, text(state.Get(key)),
		strings.Join(state.Keys(key[:2]), ","), strings.Join(listed, ","))
	consort.Infof("%s: delete %s", name, outcome(state.Delete(key)))
}

func useState() {
	tellKeyed("leader-state", consort.LeaderState, "motto", "onward")

	device := consort.ThisDevice().Device
	own := consort.DeviceState
	consort.Infof("device-state: put %s", outcome(own.Put("mood", []byte("calm"), 60_000)))
	var moods []string
	for _, entry := range own.Collect("mood") {
		moods = append(moods, string(entry.Value))
	}
	consort.Infof("device-state: %s %s %s", text(own.Get(device, "mood")),
		strings.Join(own.Keys(device, "mo"), ","), strings.Join(moods, ","))
	consort.Infof("device-state: delete %s", outcome(own.Delete("mood")))

	tellKeyed("shared-state", consort.SharedState, "colour", "red")

	sum, _ := consort.AddToCounter("visits", 2)
	consort.Infof("counters: add %d", sum)
	consort.Infof("counters: %d", consort.Counter("visits"))
}

func useLocal() {
	consort.Publish("moment", []byte("now"), false)
	consort.Publish("hello", hello(), true)
	consort.Infof("local: published yes")
}
