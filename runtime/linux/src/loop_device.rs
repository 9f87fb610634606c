//! Block devices for images in files, loop(4).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// `struct loop_config` (linux/loop.h).
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    /// Device, inode and number; offset and limit in the file.
    place: [u64; 5],
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    file_name: [u8; 64],
    rest: [u64; 14],
}

const LOOP_CTL_GET_FREE: u32 = 0x4c82;
/// Linux 5.8: with all of its settings at once.
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
/// It is free again when nobody has it open or mounted.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// How often somebody else may take the device that was free.
const TRIES: u32 = 100;

/// A block device for an image in a file, which is there as long as it is open or mounted.
///
/// # Errors
/// The image can't be opened, or there is no device.
pub fn make(image: &Path, read_only: bool, direct: bool) -> io::Result<(PathBuf, File)> {
    let mut open = OpenOptions::new();
    open.read(true).write(!read_only);
    let file = open.open(image)?;
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    let mut last = io::Error::from(io::ErrorKind::ResourceBusy);
    for _ in 0..TRIES {
        // SAFETY: this ioctl(2) takes no argument.
        let number = Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) })?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = open.open(&path)?;
        match configure(&device, &file, image, [read_only, direct]) {
            Ok(()) => return Ok((path, device)),
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => last = e,
            Err(e) => return Err(e),
        }
    }
    Err(last)
}

fn configure(device: &File, file: &File, image: &Path, [read_only, direct]: [bool; 2]) -> io::Result<()> {
    let mut flags = LO_FLAGS_AUTOCLEAR;
    flags |= if read_only { LO_FLAGS_READ_ONLY } else { 0 };
    flags |= if direct { LO_FLAGS_DIRECT_IO } else { 0 };
    // What losetup(8) shows; the kernel wants an end.
    let mut file_name = [0; 64];
    file_name.iter_mut().zip(image.as_os_str().as_bytes().iter().take(63)).for_each(|(to, from)| *to = *from);
    let info = LoopInfo { place: [0; 5], number: 0, encryption: [0; 2], flags, file_name, rest: [0; 14] };
    let fd = file.as_raw_fd() as u32;
    let config = LoopConfig { fd, block_size: 0, info, reserved: [0; 8] };
    // SAFETY: this ioctl(2) reads a `struct loop_config`, which outlives the call.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) })?;
    Ok(())
}

// The kernel's sizes: 232 bytes, and 304.
const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);
