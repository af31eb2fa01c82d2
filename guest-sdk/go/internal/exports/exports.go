// Package exports is what the generated bindings call: it hands every callback on.
package exports

import (
	changes "github.com/consort-host/consort/guest-sdk/go/internal/bindings/consort_plugin_state_events"
	"github.com/consort-host/consort/guest-sdk/go/internal/bindings/consort_plugin_types"
	"github.com/consort-host/consort/guest-sdk/go/internal/wit"
)

// The contract's types, as the bindings have them.
type (
	Peer       = consort_plugin_types.Peer
	Leadership = consort_plugin_types.Leadership
	Change     = changes.Change
)

// Callbacks are the plugin's, in the bindings' types.
type Callbacks interface {
	Setup() error
	Shutdown(reason uint8)
	PromoteLeader(leadership Leadership)
	DemoteLeader()
	PromoteFollower(leadership Leadership)
	DemoteFollower()
	PeerAdded(peer Peer)
	PeerRemoved(peer Peer)
	LeaderMessage(payload []byte, sender Leadership)
	PeerMessage(payload []byte, sender Peer)
	StateChanged(changes []Change)
	WritesSuperseded(keys []string)
	Timer(token, due uint64)
	LocalRequest(topic string, payload []byte) ([]byte, error)
	Save() []byte
	Restore(saved []byte, fromVersion string) error
}

// Target gets the callbacks.
var Target Callbacks

func result(err error) wit.Result[wit.Unit, string] {
	wit.Collect()
	if err != nil {
		return wit.Err[wit.Unit, string](err.Error())
	}
	return wit.Ok[wit.Unit, string](wit.Unit{})
}

func Setup() wit.Result[wit.Unit, string] { return result(Target.Setup()) }

func Shutdown(reason uint8) { Target.Shutdown(reason) }

func PromoteLeader(leadership Leadership) {
	Target.PromoteLeader(leadership)
	wit.Collect()
}

func DemoteLeader() {
	Target.DemoteLeader()
	wit.Collect()
}

func PromoteFollower(leadership Leadership) {
	Target.PromoteFollower(leadership)
	wit.Collect()
}

func DemoteFollower() {
	Target.DemoteFollower()
	wit.Collect()
}

func OnPeerAdded(peer Peer) {
	Target.PeerAdded(peer)
	wit.Collect()
}

func OnPeerRemoved(peer Peer) {
	Target.PeerRemoved(peer)
	wit.Collect()
}

func OnLeaderMessage(payload []byte, sender Leadership) {
	Target.LeaderMessage(payload, sender)
	wit.Collect()
}

func OnPeerMessage(payload []byte, sender Peer) {
	Target.PeerMessage(payload, sender)
	wit.Collect()
}

func OnStateChanged(changes []Change) {
	Target.StateChanged(changes)
	wit.Collect()
}

func OnWritesSuperseded(keys []string) {
	Target.WritesSuperseded(keys)
	wit.Collect()
}

func OnTimer(token, due uint64) {
	Target.Timer(token, due)
	wit.Collect()
}

func OnLocalRequest(topic string, payload []byte) wit.Result[[]byte, string] {
	answer, err := Target.LocalRequest(topic, payload)
	wit.Collect()
	if err != nil {
		return wit.Err[[]byte, string](err.Error())
	}
	return wit.Ok[[]byte, string](answer)
}

func Save() []byte {
	saved := Target.Save()
	wit.Collect()
	return saved
}

func Restore(saved []byte, fromVersion string) wit.Result[wit.Unit, string] {
	return result(Target.Restore(saved, fromVersion))
}
