//! The numbers of all system calls on each architecture, by name.
//!
//! `syscalls.txt` has one line a name, sorted, with its numbers on x86-64, x86, x32 (without the x32 bit), aarch64,
//! arm and riscv64; `-` where there is none. They are the `__NR_` constants of Linux 6.17's own headers (include/uapi,
//! as collected in the crate linux-raw-sys 0.12.1), and arm's private calls (arch/arm/include/uapi/asm/unistd.h).

use super::arch::Arch;

const TEXT: &str = include_str!("syscalls.txt");
const ROWS: usize = count_lines(TEXT.as_bytes());

/// A line of the text, found and read by the compiler. Offsets instead of `&str`, so that nothing has to be relocated
/// when the program starts.
#[derive(Clone, Copy)]
struct Row {
    at: u16,
    length: u8,
    numbers: [u32; Arch::COUNT],
}

const NONE: u32 = u32::MAX;
static TABLE: [Row; ROWS] = parse(TEXT.as_bytes());

/// A known system call.
#[derive(Clone, Copy)]
pub(super) struct Syscall(&'static Row);

impl Syscall {
    /// Its number, as the kernel shows it to a filter.
    pub(super) fn number(self, arch: Arch) -> Option<u32> {
        match self.0.numbers[arch as usize] {
            NONE => None,
            number => Some(number | arch.number_bit()),
        }
    }
}

/// The system call of that name, if any of the architectures has it.
pub(super) fn find(name: &str) -> Option<Syscall> {
    let (mut low, mut high) = (0, ROWS);
    while low < high {
        let middle = usize::midpoint(low, high);
        let row = &TABLE[middle];
        let at = usize::from(row.at);
        match TEXT.as_bytes()[at..at + usize::from(row.length)].cmp(name.as_bytes()) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return Some(Syscall(row)),
        }
    }
    None
}

const fn count_lines(text: &[u8]) -> usize {
    let (mut lines, mut at) = (0, 0);
    while at < text.len() {
        lines += (text[at] == b'\n') as usize;
        at += 1;
    }
    lines
}

const fn parse(text: &[u8]) -> [Row; ROWS] {
    let mut table = [Row { at: 0, length: 0, numbers: [NONE; Arch::COUNT] }; ROWS];
    let (mut row, mut at) = (0, 0);
    while row < ROWS {
        table[row].at = at as u16;
        while text[at] != b' ' {
            at += 1;
        }
        table[row].length = (at - table[row].at as usize) as u8;
        let mut column = 0;
        while column < Arch::COUNT {
            at += 1; // the space
            while text[at] != b' ' && text[at] != b'\n' {
                if text[at] != b'-' {
                    let digit = (text[at] - b'0') as u32;
                    let number = table[row].numbers[column];
                    table[row].numbers[column] = if number == NONE { digit } else { number * 10 + digit };
                }
                at += 1;
            }
            column += 1;
        }
        assert!(text[at] == b'\n', "a line has more columns than there are architectures");
        at += 1;
        row += 1;
    }
    assert!(at == text.len() && at <= u16::MAX as usize);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_so_that_each_is_found() {
        let names: Vec<&str> = TEXT.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert!(names.is_sorted());
        for name in &names {
            let found = find(name).unwrap().0;
            let numbers: Vec<String> =
                found.numbers.iter().map(|n| if *n == NONE { "-".into() } else { n.to_string() }).collect();
            assert!(TEXT.contains(&format!("\n{name} {}\n", numbers.join(" "))) || *name == names[0]);
        }
        assert!(find("").is_none() && find("reads").is_none() && find("zzz").is_none());
    }

    #[test]
    fn numbers_are_those_of_this_build() {
        let native = |name| find(name).unwrap().number(Arch::NATIVE).map(i64::from);
        assert_eq!(native("read"), Some(libc::SYS_read));
        assert_eq!(native("seccomp"), Some(libc::SYS_seccomp));
        assert_eq!(native("clone3"), Some(libc::SYS_clone3));
        assert_eq!(native("mseal"), Some(libc::SYS_mseal));
        assert_eq!(find("read").unwrap().number(Arch::X32), Some(0x4000_0000));
    }
}
