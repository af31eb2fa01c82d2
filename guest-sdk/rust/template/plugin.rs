//! Says who leads, and greets the group when this device does.

use consort_plugin::{BoxError, Leadership, Plugin, group, log, messages, payload};
use serde::{Deserialize, Serialize};

#[derive(Default)]
struct {{Name}};

#[derive(Serialize, Deserialize)]
struct Greeting {
    greeting: String,
}

impl Plugin for {{Name}} {
    fn setup(&mut self) -> Result<(), BoxError> {
        log::info!("{{name}} is set up");
        Ok(())
    }

    fn promote_leader(&mut self, leadership: Leadership) {
        log::info!("leader in term {}", leadership.term);
        let greeting = group::this_device().name;
        if let Err(error) = messages::broadcast_value(&Greeting { greeting }) {
            log::warn!("not greeted: {error}");
        }
    }

    fn promote_follower(&mut self, leadership: Leadership) {
        log::info!("following {}", leadership.leader.name);
    }

    fn leader_message(&mut self, message: Vec<u8>, sender: Leadership) {
        match payload::decode::<Greeting>(&message) {
            Ok(Greeting { greeting }) => {
                log::info!("greeted by {greeting} in term {}", sender.term);
            }
            Err(error) => log::warn!("{error}"),
        }
    }
}

consort_plugin::plugin!({{Name}});
