//! The built kernel programs. `objects/README.md` says how they are built, and with what.

/// An ELF object has to be aligned for its reader; plain bytes in a binary are not.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static ALIGNED_SOCKET_FILTER: &Aligned<[u8]> = &Aligned(*include_bytes!("../objects/socket-filter.o"));
static ALIGNED_BASELINE: &Aligned<[u8]> = &Aligned(*include_bytes!("../objects/baseline.o"));

/// The socket filter, with the entry points in [`crate::layout::programs`].
pub static SOCKET_FILTER: &[u8] = &ALIGNED_SOCKET_FILTER.0;

/// A socket filter that lets everything through, for benchmarks; its only program is `baseline`.
pub static BASELINE: &[u8] = &ALIGNED_BASELINE.0;
