//! Replicas against each other and against plain models.

mod basics;
mod net;
