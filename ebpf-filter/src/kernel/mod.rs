//! Rules in the kernel. Everything that knows of aya, of file descriptors or of system calls is in here.

#[cfg(target_os = "linux")]
mod diagnosis;
#[cfg(not(target_os = "linux"))]
mod fallback;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod lock;
#[cfg(target_os = "linux")]
mod pin;
#[cfg(target_os = "linux")]
mod pinned;
#[cfg(target_os = "linux")]
mod shared;
#[cfg(target_os = "linux")]
mod socket;
#[cfg(target_os = "linux")]
mod sys;
mod update;

#[cfg(not(target_os = "linux"))]
pub(crate) use fallback::{Held, Kernel, Lock, Mapping, Payload, SharedMaps, prefetch};
pub(crate) use update::{Update, Updated};
#[cfg(target_os = "linux")]
pub(crate) use {
    load::Kernel,
    lock::{Held, Lock},
    shared::SharedMaps,
    socket::Payload,
    sys::{Mapping, prefetch},
};
