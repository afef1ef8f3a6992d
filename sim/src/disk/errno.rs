//! What a file system refuses, by errno.

use std::fmt;

/// Why an operation did not happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Errno {
    /// ENOENT: a name on the path is not there.
    NotFound,
    /// EIO: the device failed.
    Io,
    /// EBADF: the handle is closed, of a process that is gone, or only for reading.
    BadHandle,
    /// EWOULDBLOCK: somebody else holds the lock.
    Locked,
    /// EBUSY: the root can be neither removed nor renamed.
    Busy,
    /// EEXIST: the name is taken.
    AlreadyExists,
    /// EXDEV: a rename to another directory, which the model does not have.
    CrossDevice,
    /// ENOTDIR: a file where a directory must be.
    NotADirectory,
    /// EISDIR: a directory where a file must be.
    IsADirectory,
    /// EINVAL: a path that is none.
    Invalid,
    /// ENOSPC: no block is left.
    NoSpace,
    /// EROFS: nothing can be written.
    ReadOnly,
    /// ENAMETOOLONG: a name of more than 255 bytes.
    NameTooLong,
    /// ENOTEMPTY: a directory that still has entries.
    NotEmpty,
}

impl Errno {
    /// Linux's number, of which the standard library makes an error.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::NotFound => 2,
            Self::Io => 5,
            Self::BadHandle => 9,
            Self::Locked => 11,
            Self::Busy => 16,
            Self::AlreadyExists => 17,
            Self::CrossDevice => 18,
            Self::NotADirectory => 20,
            Self::IsADirectory => 21,
            Self::Invalid => 22,
            Self::NoSpace => 28,
            Self::ReadOnly => 30,
            Self::NameTooLong => 36,
            Self::NotEmpty => 39,
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "No such file or directory",
            Self::Io => "Input/output error",
            Self::BadHandle => "Bad file descriptor",
            Self::Locked => "Resource temporarily unavailable",
            Self::Busy => "Device or resource busy",
            Self::AlreadyExists => "File exists",
            Self::CrossDevice => "Invalid cross-device link",
            Self::NotADirectory => "Not a directory",
            Self::IsADirectory => "Is a directory",
            Self::Invalid => "Invalid argument",
            Self::NoSpace => "No space left on device",
            Self::ReadOnly => "Read-only file system",
            Self::NameTooLong => "File name too long",
            Self::NotEmpty => "Directory not empty",
        })
    }
}

impl std::error::Error for Errno {}
