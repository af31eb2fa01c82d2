//! Replicas against each other and against plain models.

mod apart;
mod bad;
mod basics;
mod check;
mod cuts;
mod kept;
mod large;
mod net;
mod random;
mod room;
mod times;
