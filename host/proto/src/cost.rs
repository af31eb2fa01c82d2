//! What plugins' messages take: the parts they travel in, and when they go through the fan-out tree.
//!
//! Sizes are in bytes. They stand here for all who reckon with them: the wire, the tree, and plans of
//! simulations, which give devices credit by them.

/// Bytes of payload in one part: with the longest header they fit a datagram. What is longer travels
/// in parts.
pub const CHUNK: usize = 1100;

/// What a part that goes through the tree takes beside its bytes: its headers and the overhead of a
/// datagram.
pub const BRANCH_COST: usize = 96;

/// What a notice takes, header, group and overhead of its datagram included.
pub const NOTICE_COST: usize = 28 + 40;

/// To how many members each one passes a message of the tree on.
pub const BRANCHES: usize = 4;

/// Up to so many receivers get a message straight, whatever their sender's credit.
pub const STRAIGHT_MAX: usize = 2 * BRANCHES;
