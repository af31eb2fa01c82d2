//! The Consort daemon and its command line.

pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod driver;
pub mod exit_code;
pub mod local;
pub mod net;
pub mod plugins;
pub mod reread;
pub mod run;
pub mod secrets;
pub mod snapshot;
pub mod storage;
pub mod telemetry;
