//! Listening sockets.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::net::{UnixListener, UnixStream};

/// A Unix socket that removes its file when it is dropped, unless another process has put its own there.
pub(super) struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
}

impl UnixSocket {
    /// Listens at `path`. A socket that a dead process left is replaced, a live one is an error.
    pub(super) async fn bind(path: &Path, mode: u32) -> anyhow::Result<Self> {
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        refuse_occupied(path).await?;
        // Bound under another name and renamed when its mode is right: nobody can connect in between.
        let mut staging = path.as_os_str().to_owned();
        staging.push(format!(".{}", std::process::id()));
        let staging = PathBuf::from(staging);
        let _ = std::fs::remove_file(&staging);
        let listener =
            UnixListener::bind(&staging).with_context(|| format!("cannot listen at {}", path.display()))?;
        let placed = std::fs::set_permissions(&staging, std::fs::Permissions::from_mode(mode))
            .and_then(|()| std::fs::rename(&staging, path))
            .and_then(|()| inode(path));
        match placed {
            Ok(inode) => Ok(Self { listener, path: path.to_owned(), inode }),
            Err(error) => {
                let _ = std::fs::remove_file(&staging);
                Err(error).with_context(|| format!("cannot listen at {}", path.display()))
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|now| now == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

async fn refuse_occupied(path: &Path) -> anyhow::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        anyhow::bail!(
            "{} exists and is not a socket: move it away or choose another --socket",
            path.display()
        );
    }
    if UnixStream::connect(path).await.is_ok() {
        anyhow::bail!("another process listens at {}: is the sidecar running already?", path.display());
    }
    Ok(())
}
