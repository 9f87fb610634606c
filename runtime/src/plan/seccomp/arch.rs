//! The architectures that a filter can tell apart.

/// An architecture, in the order of the columns of `syscalls.txt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kernel's and libseccomp's own names")]
pub enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
}

impl Arch {
    /// How many there are.
    pub const COUNT: usize = 6;

    /// What this program was built for.
    pub const NATIVE: Arch = if cfg!(target_arch = "x86_64") {
        Arch::X86_64
    } else if cfg!(target_arch = "aarch64") {
        Arch::Aarch64
    } else if cfg!(target_arch = "riscv64") {
        Arch::Riscv64
    } else {
        panic!("there is no table of system calls for this architecture")
    };

    /// `linux.seccomp.architectures`: runtime-spec 1.3's names. None is one that no kernel of ours runs.
    pub(super) const NAMES: &[(&str, Option<Arch>)] = &[
        ("SCMP_ARCH_X86_64", Some(Arch::X86_64)),
        ("SCMP_ARCH_X86", Some(Arch::X86)),
        ("SCMP_ARCH_X32", Some(Arch::X32)),
        ("SCMP_ARCH_AARCH64", Some(Arch::Aarch64)),
        ("SCMP_ARCH_ARM", Some(Arch::Arm)),
        ("SCMP_ARCH_RISCV64", Some(Arch::Riscv64)),
        ("SCMP_ARCH_LOONGARCH64", None),
        ("SCMP_ARCH_M68K", None),
        ("SCMP_ARCH_MIPS", None),
        ("SCMP_ARCH_MIPS64", None),
        ("SCMP_ARCH_MIPS64N32", None),
        ("SCMP_ARCH_MIPSEL", None),
        ("SCMP_ARCH_MIPSEL64", None),
        ("SCMP_ARCH_MIPSEL64N32", None),
        ("SCMP_ARCH_PARISC", None),
        ("SCMP_ARCH_PARISC64", None),
        ("SCMP_ARCH_PPC", None),
        ("SCMP_ARCH_PPC64", None),
        ("SCMP_ARCH_PPC64LE", None),
        ("SCMP_ARCH_S390", None),
        ("SCMP_ARCH_S390X", None),
        ("SCMP_ARCH_SH", None),
        ("SCMP_ARCH_SHEB", None),
    ];

    /// Whether a kernel of `native` runs programs of this one.
    pub(super) fn runs_on(self, native: Arch) -> bool {
        match native {
            Arch::X86_64 => matches!(self, Arch::X86_64 | Arch::X86 | Arch::X32),
            Arch::Aarch64 => matches!(self, Arch::Aarch64 | Arch::Arm),
            other => self == other,
        }
    }

    /// `seccomp_data.arch`: AUDIT_ARCH_* (linux/audit.h). x32 calls are told by a bit of their number only.
    pub(super) fn token(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
            Arch::Riscv64 => 0xc000_00f3,
        }
    }

    /// `__X32_SYSCALL_BIT` (asm/unistd.h), or nothing.
    pub(super) fn number_bit(self) -> u32 {
        if self == Arch::X32 { 0x4000_0000 } else { 0 }
    }

    /// Whether all 64 bits of an argument count. x32's registers have them, too, but its calls mean 32 (libseccomp).
    pub(super) fn wide(self) -> bool {
        matches!(self, Arch::X86_64 | Arch::Aarch64 | Arch::Riscv64)
    }
}
