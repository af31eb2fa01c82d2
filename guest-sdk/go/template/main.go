// Says who leads, and greets the group when this device does.
package main

import (
	consort "github.com/consort-host/consort/guest-sdk/go"
	"github.com/consort-host/consort/guest-sdk/go/payload"
)

type plugin struct{ consort.Defaults }

func init() { consort.Register(&plugin{}) }

func main() {}

func (*plugin) Setup() error {
	consort.Infof("{{name}} is set up")
	return nil
}

func (*plugin) PromoteLeader(leadership consort.Leadership) {
	consort.Infof("leader in term %d", leadership.Term)
	greeting := payload.Fields{{Key: "greeting", Value: consort.ThisDevice().Name}}
	if err := consort.Broadcast(payload.Must(greeting)); err != nil {
		consort.Warnf("not greeted: %v", err)
	}
}

func (*plugin) PromoteFollower(leadership consort.Leadership) {
	consort.Infof("following %s", leadership.Leader.Name)
}

func (*plugin) LeaderMessage(message []byte, sender consort.Leadership) {
	value, err := payload.Decode(message)
	fields, isMap := value.(map[string]any)
	if err != nil || !isMap {
		consort.Warnf("not understood: %v", err)
		return
	}
	consort.Infof("greeted by %v in term %d", fields["greeting"], sender.Term)
}
