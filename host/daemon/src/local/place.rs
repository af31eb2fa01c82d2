//! Where the sockets are, and who may open them.
//!
//! Without a setting, each is `local/<plugin>.sock` in the data folder, for this user alone. A Unix
//! socket's path holds about a hundred bytes; where that is too long, the socket is in the user's
//! runtime folder under a name made from it. With `local.dir` they are in that folder, and with
//! `local.group` the members of a group may open them too.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use consort_proto::PluginId;
use nix::unistd::Group;

use crate::config::LocalConfig;
use crate::control;
use crate::storage::make_private_dir;

/// Where sockets go.
#[derive(Clone, Debug)]
pub struct Places {
    data_dir: PathBuf,
    dir: Option<PathBuf>,
    group: Option<String>,
}

impl Places {
    /// Places for the daemon on this data folder.
    #[must_use]
    pub fn new(data_dir: &Path, config: &LocalConfig) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            dir: config.dir.clone(),
            group: config.group.clone(),
        }
    }

    /// Listens for a plugin's clients, without waiting in `accept`.
    ///
    /// # Errors
    /// The folder or the group is not usable, or the path is too long; the text says what to do.
    pub(super) fn listen(&self, id: &PluginId) -> io::Result<(UnixListener, PathBuf)> {
        let path = self.path(id)?;
        remove_dead(&path)?;
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        match self.group()? {
            Some(group) => {
                chown(&path, None, Some(group)).map_err(|error| self.no_member(&error))?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o660))?;
            }
            None => fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?,
        }
        Ok((listener, path))
    }

    /// The path of a plugin's socket, in a folder that others cannot write to.
    fn path(&self, id: &PluginId) -> io::Result<PathBuf> {
        let name = format!("{id}.sock");
        if let Some(dir) = &self.dir {
            let path = dir.join(name);
            if path.as_os_str().len() > control::PATH_MAX {
                return Err(io::Error::other(format!(
                    "{} is too long a path for a socket, which holds {} bytes: \
                     choose a shorter local.dir",
                    path.display(),
                    control::PATH_MAX
                )));
            }
            self.open_dir(dir)?;
            return Ok(path);
        }
        let dir = self.data_dir.join("local");
        let path = dir.join(name);
        if path.as_os_str().len() <= control::PATH_MAX {
            self.open_dir(&dir)?;
            return Ok(path);
        }
        control::path_elsewhere(&path)
    }

    /// Makes the folder, or checks one that is there.
    fn open_dir(&self, dir: &Path) -> io::Result<()> {
        let said = |error: &io::Error| {
            let text = format!("the folder {} is not usable: {error}", dir.display());
            io::Error::new(error.kind(), text)
        };
        make_private_dir(dir).map_err(|error| said(&error))?;
        let found = fs::symlink_metadata(dir).map_err(|error| said(&error))?;
        let mine = found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw();
        if !mine || found.mode() & 0o022 != 0 {
            let error = io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it belongs to another user or others can write to it",
            );
            return Err(said(&error));
        }
        if let Some(group) = self.group()? {
            chown(dir, None, Some(group)).map_err(|error| self.no_member(&error))?;
            fs::set_permissions(dir, fs::Permissions::from_mode(0o750))?;
        }
        Ok(())
    }

    /// The group's number.
    fn group(&self) -> io::Result<Option<u32>> {
        let Some(name) = &self.group else {
            return Ok(None);
        };
        let found = Group::from_name(name).map_err(io::Error::from)?;
        let group = found.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("there is no group {name:?} on this device: see local.group"),
            )
        })?;
        Ok(Some(group.gid.as_raw()))
    }

    fn no_member(&self, error: &io::Error) -> io::Error {
        let name = self.group.as_deref().unwrap_or_default();
        io::Error::new(
            error.kind(),
            format!(
                "the daemon's user cannot give a file to the group {name:?} ({error}): make it a member"
            ),
        )
    }
}

/// Removes a socket that nobody listens on; another daemon's stays.
fn remove_dead(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} is there and is no socket", path.display()),
        ));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!(
                "another daemon listens on {}: choose another local.dir",
                path.display()
            ),
        ));
    }
    fs::remove_file(path)
}

/// Removes a socket of one's own.
pub(super) fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::debug!(%error, path = %path.display(), "removing a socket failed"),
    }
}
