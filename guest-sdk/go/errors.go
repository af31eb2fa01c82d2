package consort

import "fmt"

// HostError is why a host call did nothing. Compare it by [errors.Is] with the errors below.
type HostError struct {
	// Reason is the contract's word, such as "not-leader".
	Reason string
	// Limit is the bound in bytes, where the reason is "too-large".
	Limit uint64
}

// The errors of host calls.
var (
	ErrNotLeader   error = &HostError{Reason: "not-leader"}   // Only the leader may do this.
	ErrNoLeader    error = &HostError{Reason: "no-leader"}    // No leader is known at the moment.
	ErrUnknownPeer error = &HostError{Reason: "unknown-peer"} // No such member.
	ErrInvalidKey  error = &HostError{Reason: "invalid-key"}  // Empty, longer than 256 bytes, or reserved.
	ErrTooLarge    error = &HostError{Reason: "too-large"}    // Beyond the limit.
	ErrBusy        error = &HostError{Reason: "busy"}         // A queue or quota is full; nothing was done.
)

func (e *HostError) Error() string {
	if e.Limit > 0 {
		return fmt.Sprintf("%s %d", e.Reason, e.Limit)
	}
	return e.Reason
}

// Is compares by reason.
func (e *HostError) Is(target error) bool {
	other, ok := target.(*HostError)
	return ok && other.Reason == e.Reason
}
