package consort

import (
	"fmt"

	"github.com/consort-host/consort/guest-sdk/go/internal/bindings/consort_plugin_clock"
	"github.com/consort-host/consort/guest-sdk/go/internal/bindings/consort_plugin_config"
	"github.com/consort-host/consort/guest-sdk/go/internal/bindings/consort_plugin_group"
	"github.com/consort-host/consort/guest-sdk/go/internal/bindings/consort_plugin_local"
	"github.com/consort-host/consort/guest-sdk/go/internal/bindings/consort_plugin_log"
	"github.com/consort-host/consort/guest-sdk/go/internal/bindings/consort_plugin_messages"
	"github.com/consort-host/consort/guest-sdk/go/internal/wit"
)

// between counts host calls, so that a callback that makes many of them is collected after, too.
var between int

func called() {
	if between++; between%16 == 0 {
		wit.Collect()
	}
}

func write(level uint8, format string, values []any) {
	called()
	consort_plugin_log.Write(level, fmt.Sprintf(format, values...))
}

// Tracef logs as fmt.Printf does. The host tags lines with this plugin's id.
func Tracef(format string, values ...any) { write(consort_plugin_log.Level_Trace, format, values) }

// Debugf logs as fmt.Printf does.
func Debugf(format string, values ...any) { write(consort_plugin_log.Level_Debug, format, values) }

// Infof logs as fmt.Printf does.
func Infof(format string, values ...any) { write(consort_plugin_log.Level_Info, format, values) }

// Warnf logs as fmt.Printf does.
func Warnf(format string, values ...any) { write(consort_plugin_log.Level_Warn, format, values) }

// Errorf logs as fmt.Printf does.
func Errorf(format string, values ...any) { write(consort_plugin_log.Level_Error, format, values) }

// Config is the value of a setting; false if it is not set.
func Config(key string) (string, bool) {
	called()
	return option(consort_plugin_config.Get(key))
}

// Configs is all settings: the manifest's, overlaid with the operator's.
func Configs() map[string]string {
	called()
	settings := map[string]string{}
	for _, pair := range consort_plugin_config.Entries() {
		settings[pair.F0] = pair.F1
	}
	return settings
}

// ThisDevice is this device.
func ThisDevice() Peer {
	called()
	return consort_plugin_group.ThisDevice()
}

// Peers is every member that runs this plugin, this device included, ordered by device id.
func Peers() []Peer {
	called()
	return consort_plugin_group.Peers()
}

// Leader is the leader as this device knows it; false while an election is under way.
func Leader() (Leadership, bool) {
	called()
	return option(consort_plugin_group.Leader())
}

// IsLeader says whether this device leads.
func IsLeader() bool { return consort_plugin_group.IsLeader() }

// Broadcast sends from the leader to every member, this device included.
//
// Messages arrive at most once and in no order; a lost one is not resent.
func Broadcast(payload []byte) error {
	called()
	return sent(consort_plugin_messages.Broadcast(payload))
}

// SendToLeader sends to the leader; on the leader itself it is a local delivery.
func SendToLeader(payload []byte) error {
	called()
	return sent(consort_plugin_messages.SendToLeader(payload))
}

// Send sends to the member with this device id.
func Send(device string, payload []byte) error {
	called()
	return sent(consort_plugin_messages.Send(device, payload))
}

// SendToAll sends to every member, this device included.
func SendToAll(payload []byte) error {
	called()
	return sent(consort_plugin_messages.SendToAll(payload))
}

func sent(result wit.Result[wit.Unit, consort_plugin_messages.SendError]) error {
	if result.Tag() == wit.ResultOk {
		return nil
	}
	failure := result.Err()
	switch failure.Tag() {
	case consort_plugin_messages.SendError_NotLeader:
		return ErrNotLeader
	case consort_plugin_messages.SendError_NoLeader:
		return ErrNoLeader
	case consort_plugin_messages.SendError_UnknownPeer:
		return ErrUnknownPeer
	case consort_plugin_messages.SendError_TooLarge:
		return &HostError{"too-large", uint64(failure.TooLarge())}
	default:
		return ErrBusy
	}
}

// Now is group time: microseconds since the Unix epoch on the group's shared clock. It never runs
// backwards within one run of a plugin.
func Now() uint64 { return consort_plugin_clock.Now() }

// ClockQuality says whether this device is in step, and gives a bound on its error in microseconds.
func ClockQuality() (synchronised bool, errorBound uint64) {
	quality := consort_plugin_clock.Quality()
	return quality.Synchronised, quality.ErrorBound
}

// WakeAt has Timer called at a group time, or at once if that has passed. A token has one timer:
// setting it again replaces it.
func WakeAt(at, token uint64) { consort_plugin_clock.WakeAt(at, token) }

// WakeEvery has Timer called at multiples of a period in microseconds, at the same instants on
// every device.
func WakeEvery(period, token uint64) { consort_plugin_clock.WakeEvery(period, token) }

// Cancel removes the timer of a token, if there is one.
func Cancel(token uint64) { consort_plugin_clock.Cancel(token) }

func option[T any](value wit.Option[T]) (T, bool) {
	if value.Tag() == wit.OptionNone {
		var none T
		return none, false
	}
	return value.Some(), true
}

// Publish sends to every program on this device that subscribes to topic. With retain, also to
// those that subscribe later, until something else is published there. A plugin needs the
// capability local.
func Publish(topic string, payload []byte, retain bool) {
	called()
	consort_plugin_local.Publish(topic, payload, retain)
}
