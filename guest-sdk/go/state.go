package consort

import (
	"github.com/consort-host/consort/guest-sdk/go/internal/bindings/consort_plugin_counters"
	"github.com/consort-host/consort/guest-sdk/go/internal/bindings/consort_plugin_device_state"
	"github.com/consort-host/consort/guest-sdk/go/internal/bindings/consort_plugin_leader_state"
	"github.com/consort-host/consort/guest-sdk/go/internal/bindings/consort_plugin_shared_state"
	events "github.com/consort-host/consort/guest-sdk/go/internal/bindings/consort_plugin_state_events"
	"github.com/consort-host/consort/guest-sdk/go/internal/bindings/consort_plugin_state_types"
	"github.com/consort-host/consort/guest-sdk/go/internal/wit"
)

// Entry is a key and its value, or a device and its value.
type Entry struct {
	Key   string
	Value []byte
}

// KeyedState is state that is read and written by key. A ttl counts in milliseconds, after which
// the entry expires everywhere; 0 keeps it.
type KeyedState struct {
	get     func(string) wit.Option[[]byte]
	keys    func(string) []string
	entries func(string) []wit.Tuple2[string, []byte]
	put     func(string, []byte, wit.Option[uint64]) wit.Result[wit.Unit, consort_plugin_state_types.WriteError]
	remove  func(string) wit.Result[wit.Unit, consort_plugin_state_types.WriteError]
}

// LeaderState is written by the leader and read by everyone. It outlives its leader.
var LeaderState = KeyedState{
	consort_plugin_leader_state.Get,
	consort_plugin_leader_state.Keys,
	consort_plugin_leader_state.Entries,
	consort_plugin_leader_state.Put,
	consort_plugin_leader_state.Delete,
}

// SharedState is written by anyone; of two writes the later one wins on every device.
var SharedState = KeyedState{
	consort_plugin_shared_state.Get,
	consort_plugin_shared_state.Keys,
	consort_plugin_shared_state.Entries,
	consort_plugin_shared_state.Put,
	consort_plugin_shared_state.Delete,
}

// Get is the value of a key; false if there is none.
func (s KeyedState) Get(key string) ([]byte, bool) {
	called()
	return option(s.get(key))
}

// Keys are those that begin with prefix, in order.
func (s KeyedState) Keys(prefix string) []string {
	called()
	return s.keys(prefix)
}

// Entries are those whose keys begin with prefix, in order.
func (s KeyedState) Entries(prefix string) []Entry {
	called()
	return entriesOf(s.entries(prefix))
}

// Put writes.
func (s KeyedState) Put(key string, value []byte, ttl uint64) error {
	called()
	return written(s.put(key, value, life(ttl)))
}

// Delete removes a key, which need not be there.
func (s KeyedState) Delete(key string) error {
	called()
	return written(s.remove(key))
}

// DeviceState is written by each device for itself and read by everyone.
var DeviceState deviceState

type deviceState struct{}

// Get is what the device with this id wrote under a key; false if there is nothing.
func (deviceState) Get(device, key string) ([]byte, bool) {
	called()
	return option(consort_plugin_device_state.Get(device, key))
}

// Collect is the value under key of every device that has one; Entry.Key is the device's id.
func (deviceState) Collect(key string) []Entry {
	called()
	return entriesOf(consort_plugin_device_state.Collect(key))
}

// Keys are the device's that begin with prefix, in order.
func (deviceState) Keys(device, prefix string) []string {
	called()
	return consort_plugin_device_state.Keys(device, prefix)
}

// Put writes for this device. A ttl counts in milliseconds; 0 keeps the entry.
func (deviceState) Put(key string, value []byte, ttl uint64) error {
	called()
	return written(consort_plugin_device_state.Put(key, value, life(ttl)))
}

// Delete removes a key of this device.
func (deviceState) Delete(key string) error {
	called()
	return written(consort_plugin_device_state.Delete(key))
}

// Counter is a counter's sum as this device sees it. Anyone adds to it, also while cut off; no
// increment is lost or counted twice.
func Counter(name string) int64 { return consort_plugin_counters.Get(name) }

// AddToCounter adds and gives the sum as this device sees it.
func AddToCounter(name string, delta int64) (int64, error) {
	called()
	result := consort_plugin_counters.Add(name, delta)
	if result.Tag() == wit.ResultOk {
		return result.Ok(), nil
	}
	return 0, writeError(result.Err())
}

// Change is one key of the state that changed.
type Change struct {
	Origin  Origin
	Device  string // Whose state it is, for FromDevice.
	Key     string
	Outcome Outcome
	Value   []byte // What was written, for Put.
	Sum     int64  // The counter's new sum, for Counted.
}

// Origin is a kind of state.
type Origin uint8

// The kinds of state.
const (
	FromLeader Origin = iota
	FromDevice
	FromShared
	FromCounter
)

func (o Origin) String() string { return [...]string{"leader", "device", "shared", "counter"}[o] }

// Outcome is what happened to a key.
type Outcome uint8

// The outcomes.
const (
	Put Outcome = iota
	Counted
	Deleted
	Expired
)

func (o Outcome) String() string { return [...]string{"put", "counted", "deleted", "expired"}[o] }

func changeOf(from events.Change) Change {
	change := Change{
		Origin:  Origin(from.Origin.Tag()),
		Key:     from.Key,
		Outcome: Outcome(from.Outcome.Tag()),
	}
	if change.Origin == FromDevice {
		change.Device = from.Origin.Device()
	}
	switch change.Outcome {
	case Put:
		change.Value = from.Outcome.Put()
	case Counted:
		change.Sum = from.Outcome.Counted()
	}
	return change
}

func entriesOf(pairs []wit.Tuple2[string, []byte]) []Entry {
	entries := make([]Entry, len(pairs))
	for i, pair := range pairs {
		entries[i] = Entry{pair.F0, pair.F1}
	}
	return entries
}

func life(ttl uint64) wit.Option[uint64] {
	if ttl == 0 {
		return wit.None[uint64]()
	}
	return wit.Some(ttl)
}

func written(result wit.Result[wit.Unit, consort_plugin_state_types.WriteError]) error {
	if result.Tag() == wit.ResultOk {
		return nil
	}
	return writeError(result.Err())
}

func writeError(failure consort_plugin_state_types.WriteError) error {
	switch failure.Tag() {
	case consort_plugin_state_types.WriteError_NotLeader:
		return ErrNotLeader
	case consort_plugin_state_types.WriteError_InvalidKey:
		return ErrInvalidKey
	case consort_plugin_state_types.WriteError_TooLarge:
		return &HostError{"too-large", failure.TooLarge()}
	default:
		return ErrBusy
	}
}
