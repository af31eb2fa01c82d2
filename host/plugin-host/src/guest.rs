//! What the host keeps for one guest: the data of its store, which the imports act on.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use consort_proto::{PluginCommand, QuotaMeter, StateWrite};
use thiserror::Error;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::Outcome;
use crate::allowance::Limits;
use crate::clock::GuestClock;
use crate::fault::HostFault;
use crate::limits::{CpuBudget, HANDLES_MAX, MemoryBudget};
use crate::local::LocalMessage;
use crate::plugin_log::SharedLog;
use crate::refusals::Refusals;
use crate::timers::Timers;
use crate::view::View;

/// The most commands that one callback may issue, whatever its quota.
const OUTBOX_MAX: usize = 4096;

/// The data of a store.
pub(crate) struct Guest {
    pub(crate) config: Arc<BTreeMap<String, String>>,
    pub(crate) view: View,
    pub(crate) clock: GuestClock,
    pub(crate) timers: Timers,
    pub(crate) outbox: Outbox,
    pub(crate) local: LocalOutbox,
    pub(crate) refusals: Refusals,
    pub(crate) log: SharedLog,
    pub(crate) memory: MemoryBudget,
    pub(crate) cpu: CpuBudget,
    pub(crate) wasi: WasiCtx,
    pub(crate) table: ResourceTable,
}

impl Guest {
    pub(crate) fn new(
        config: Arc<BTreeMap<String, String>>,
        view: View,
        clock: GuestClock,
        limits: &Limits,
        local: bool,
        log: SharedLog,
        wasi: WasiCtx,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        Self {
            config,
            view,
            clock,
            timers: Timers::default(),
            outbox: Outbox::new(limits),
            local: LocalOutbox::new(local, limits),
            refusals: Refusals::default(),
            log,
            memory: MemoryBudget::new(limits.memory_bytes),
            cpu: CpuBudget::default(),
            wasi,
            table,
        }
    }

    /// Prepares for a call.
    pub(crate) fn start_call(&mut self, reading: crate::ClockReading) {
        self.clock.start_call(reading);
        self.log.lock().set_now(self.clock.group_time());
        self.memory.start_call();
    }

    /// Takes what a call left behind.
    pub(crate) fn end_call(&mut self) -> Outcome {
        self.log.lock().flush();
        Outcome {
            commands: std::mem::take(&mut self.outbox.commands),
            published: std::mem::take(&mut self.local.messages),
            refusals: std::mem::take(&mut self.refusals),
        }
    }

    /// Every function that the contract offers begins with it.
    pub(crate) fn host_call(&mut self) -> Result<(), HostFault> {
        self.cpu.host_call()
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.cpu.note_host_call();
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// Why a message is not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Full {
    #[error("one callback sends and writes no more than {max} times", max = OUTBOX_MAX)]
    Callback,
    #[error(
        "its quota is used up (`[limits]`: messages_per_second, payload_kib_per_second and their \
         bursts)"
    )]
    Quota,
}

/// The commands of the call under way, and the quota for them.
pub(crate) struct Outbox {
    commands: Vec<PluginCommand>,
    quota: QuotaMeter,
}

impl Outbox {
    fn new(limits: &Limits) -> Self {
        Self {
            commands: Vec::new(),
            quota: QuotaMeter::new(&limits.quota()),
        }
    }

    /// Whether the call may issue no more commands.
    pub(crate) fn is_full(&self) -> bool {
        self.commands.len() >= OUTBOX_MAX
    }

    /// Appends a write that the guest's view has accepted.
    pub(crate) fn push_write(&mut self, write: StateWrite) {
        self.commands.push(PluginCommand::Write(write));
    }

    /// Appends a message if there is room for it and the quota allows it.
    pub(crate) fn push(
        &mut self,
        now_us: u64,
        payload: Bytes,
        command: impl FnOnce(Bytes) -> PluginCommand,
    ) -> Result<(), Full> {
        if self.is_full() {
            return Err(Full::Callback);
        }
        if !self.quota.take(now_us, payload.len()) {
            return Err(Full::Quota);
        }
        self.commands.push(command(payload));
        Ok(())
    }
}

/// The messages for local programs of the call under way, and the quota for them, which is as large
/// as that of messages to the group and counted apart.
pub(crate) struct LocalOutbox {
    /// Whether the plugin has the capability.
    pub(crate) held: bool,
    messages: Vec<LocalMessage>,
    quota: QuotaMeter,
}

impl LocalOutbox {
    fn new(held: bool, limits: &Limits) -> Self {
        Self {
            held,
            messages: Vec::new(),
            quota: QuotaMeter::new(&limits.quota()),
        }
    }

    /// Whether the quota allows another message of so many bytes, which then counts.
    pub(crate) fn take(&mut self, now_us: u64, bytes: usize) -> bool {
        self.messages.len() < OUTBOX_MAX && self.quota.take(now_us, bytes)
    }

    pub(crate) fn push(&mut self, message: LocalMessage) {
        self.messages.push(message);
    }
}
