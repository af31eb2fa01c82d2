// Package consort is for writing Consort plugins in Go.
//
// A plugin is a type that embeds [Defaults] and has the callbacks that it wants; an init function
// registers it. The host calls one callback at a time. A panic ends this instance, with its text in
// the host's log; the host starts another.
//
//	type Hello struct{ consort.Defaults }
//
//	func (*Hello) PromoteLeader(leadership consort.Leadership) {
//		consort.Infof("leader in term %d", leadership.Term)
//	}
//
//	func init() { consort.Register(&Hello{}) }
//
//	func main() {}
//
// Memory is collected between callbacks and before host calls, never within one's own code: a
// callback that allocates tens of megabytes without calling the host calls [Collect] now and then.
package consort

import (
	"errors"

	_ "github.com/consort-host/consort/guest-sdk/go/internal/bindings" // The exports.
	"github.com/consort-host/consort/guest-sdk/go/internal/exports"
	"github.com/consort-host/consort/guest-sdk/go/internal/wit"
)

// Peer is a device that runs this plugin and is alive in the group.
type Peer = exports.Peer

// Leadership is one tenure of one leader. Term grows with every change of leader.
type Leadership = exports.Leadership

// Reason is why a plugin is unloaded.
type Reason uint8

// The reasons.
const (
	Stop   Reason = iota // The host stops.
	Reload               // A new version takes over.
	Remove               // The plugin's file is gone, or the operator switched it off.
)

func (r Reason) String() string { return [...]string{"stop", "reload", "remove"}[r] }

// Plugin is all callbacks. Embed [Defaults] for those that are not needed.
type Plugin interface {
	// Setup comes once, before any other callback. An error rejects the plugin, or the reload.
	Setup() error
	// Shutdown comes before an orderly unload. A fault or a power cut skips it.
	Shutdown(reason Reason)
	// PromoteLeader: this device leads from here on.
	PromoteLeader(leadership Leadership)
	// DemoteLeader: this device leads no longer. Timers stay set.
	DemoteLeader()
	// PromoteFollower: another device leads from here on.
	PromoteFollower(leadership Leadership)
	// DemoteFollower: the device that led is lost or was replaced.
	DemoteFollower()
	// PeerAdded: a device joined the group; this device is the first.
	PeerAdded(peer Peer)
	// PeerRemoved: a device left the group.
	PeerRemoved(peer Peer)
	// LeaderMessage: from the leader's [Broadcast], on every member including the leader.
	LeaderMessage(payload []byte, sender Leadership)
	// PeerMessage: from any member's [SendToLeader], [Send] or [SendToAll].
	PeerMessage(payload []byte, sender Peer)
	// StateChanged: what changed since the last call, without this device's own writes.
	StateChanged(changes []Change)
	// WritesSuperseded: leader-state keys that this device wrote as leader and the group did not
	// adopt.
	WritesSuperseded(keys []string)
	// Timer: a timer is due. due is when it was to fire, in group time.
	Timer(token, due uint64)
	// LocalRequest: a request of a program on this device. What is returned is its answer, an error
	// its refusal.
	LocalRequest(topic string, payload []byte) ([]byte, error)
	// Save gives what the next version of this plugin is to know, when it replaces this one.
	Save() []byte
	// Restore gets what the version fromVersion saved, after Setup. An error ends the reload.
	Restore(saved []byte, fromVersion string) error
}

// Defaults has every callback, each of which does nothing.
type Defaults struct{}

func (Defaults) Setup() error                     { return nil }
func (Defaults) Shutdown(Reason)                  {}
func (Defaults) PromoteLeader(Leadership)         {}
func (Defaults) DemoteLeader()                    {}
func (Defaults) PromoteFollower(Leadership)       {}
func (Defaults) DemoteFollower()                  {}
func (Defaults) PeerAdded(Peer)                   {}
func (Defaults) PeerRemoved(Peer)                 {}
func (Defaults) LeaderMessage([]byte, Leadership) {}
func (Defaults) PeerMessage([]byte, Peer)         {}
func (Defaults) StateChanged([]Change)            {}
func (Defaults) WritesSuperseded([]string)        {}
func (Defaults) Timer(uint64, uint64)             {}
func (Defaults) Save() []byte                     { return nil }
func (Defaults) Restore([]byte, string) error     { return nil }
func (Defaults) LocalRequest(string, []byte) ([]byte, error) {
	return nil, errors.New("this plugin answers no requests")
}

// Register makes a value the plugin of this program. Call it once, from an init function.
func Register(plugin Plugin) { exports.Target = adapter{plugin} }

// Collect frees memory if much was allocated since it was last freed.
func Collect() { wit.Collect() }

// adapter gives callbacks their own types.
type adapter struct{ Plugin }

func (a adapter) Shutdown(reason uint8) { a.Plugin.Shutdown(Reason(reason)) }

func (a adapter) StateChanged(changes []exports.Change) {
	converted := make([]Change, len(changes))
	for i, change := range changes {
		converted[i] = changeOf(change)
	}
	a.Plugin.StateChanged(converted)
}
