//! What the process tells its caller when it ends. Every command uses the same numbers, so that a
//! script can tell a typing error from a daemon that is not there.

/// Why a command ended without success; success is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// The command failed.
    Failed = 1,
    /// The command line was not understood.
    Usage = 2,
    /// The configuration, or a secret's file, is not usable.
    Config = 3,
    /// Another program holds the address.
    AddressInUse = 4,
    /// Another daemon uses the data folder.
    DataFolderLocked = 5,
    /// No daemon answers on the data folder's control socket.
    NotReachable = 6,
    /// The command ran, but what it was to show did not happen.
    ExpectationNotMet = 7,
}

impl ExitCode {
    /// The code for the operating system.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.code())
    }
}
