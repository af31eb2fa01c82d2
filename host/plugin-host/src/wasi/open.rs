//! What a plugin may open in the folders it was granted: files and folders, nothing else.
//!
//! A named pipe without a writer, or many a device, blocks the thread that opens it for good, and no
//! limit of a callback ends a system call. So what a path leads to is looked at first. Whoever
//! exchanges it in between is a program of the device; the bound on a plugin's end covers that.

use wasmtime::component::{Linker, Resource};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::filesystem::WasiFilesystemView as _;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, Host, HostDescriptor, OpenFlags,
    PathFlags,
};

use crate::guest::Guest;
use crate::plugin_log::Level;

/// The interface by the name that wasmtime's bindings give it; importers of any 0.2 get it.
const INTERFACE: &str = "wasi:filesystem/types@0.2.12";

type Opened = Result<(Result<Resource<Descriptor>, ErrorCode>,)>;
type Asked = (
    Resource<Descriptor>,
    PathFlags,
    String,
    OpenFlags,
    DescriptorFlags,
);

/// Replaces `descriptor.open-at`, which must have been linked; shadowing must be allowed.
pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    let mut interface = linker.instance(INTERFACE)?;
    interface.func_wrap("[method]descriptor.open-at", open_at)
}

fn open_at(mut store: StoreContextMut<'_, Guest>, asked: Asked) -> Opened {
    let (folder, follow, path, how, flags) = asked;
    let guest = store.data_mut();
    let mut files = guest.filesystem();
    let same_folder = Resource::new_borrow(folder.rep());
    // What is not there may be made, and what cannot be looked at cannot be opened either.
    let kind = files
        .stat_at(same_folder, follow, path.clone())
        .map_or(DescriptorType::RegularFile, |found| found.type_);
    match kind {
        DescriptorType::RegularFile | DescriptorType::Directory | DescriptorType::SymbolicLink => {}
        DescriptorType::Fifo
        | DescriptorType::Socket
        | DescriptorType::BlockDevice
        | DescriptorType::CharacterDevice
        | DescriptorType::Unknown => {
            let text = format!("{path} is neither a file nor a folder, so it is not opened");
            guest.log.lock().write(Level::Warn, &text);
            return Ok((Err(ErrorCode::Access),));
        }
    }
    match files.open_at(folder, follow, path, how, flags) {
        Ok(opened) => Ok((Ok(opened),)),
        Err(error) => Ok((Err(files.convert_error_code(error)?),)),
    }
}
