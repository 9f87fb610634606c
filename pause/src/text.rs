//! Numbers as decimal text and back, without a way to panic: the machinery for that would be larger than pause.

/// Room for every `u32` in decimal.
pub type Digits = [u8; 10];

/// `number` in decimal, at the end of `room`.
pub fn decimal(mut number: u32, room: &mut Digits) -> &[u8] {
    let mut unused = room.len();
    for place in room.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        unused -= 1;
        if number == 0 {
            break;
        }
    }
    room.get(unused..).unwrap_or_default()
}

/// A number of one or more decimal digits and nothing else; `None` also when it is greater than `most`.
pub fn number(text: &[u8], most: u32) -> Option<u32> {
    let digits = text.iter().try_fold(0u32, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { sum.checked_mul(10)?.checked_add(digit.into()) }
    })?;
    (!text.is_empty() && digits <= most).then_some(digits)
}

/// Texts one after the other, in some room.
pub struct Joined<'r> {
    room: &'r mut [u8],
    used: usize,
}

impl<'r> Joined<'r> {
    /// Nothing yet.
    pub fn new(room: &'r mut [u8]) -> Self {
        Self { room, used: 0 }
    }

    /// Adds a text, or what there is room for.
    pub fn add(&mut self, text: &[u8]) -> &mut Self {
        for byte in text {
            if let Some(place) = self.room.get_mut(self.used) {
                *place = *byte;
                self.used += 1;
            }
        }
        self
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        self.room.get(..self.used).unwrap_or_default()
    }

    /// Whether there is room for more.
    pub fn has_room(&self) -> bool {
        self.used < self.room.len()
    }
}

/// A program's name without its directories.
pub fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_survives_being_written_and_read(n: u32) {
            let mut room = Digits::default();
            let written = decimal(n, &mut room);
            let expected = n.to_string();
            prop_assert_eq!(written, expected.as_bytes());
            prop_assert_eq!(number(written, u32::MAX), Some(n));
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "+1", "-1", " 1", "1 ", "1x", "4294967296", "99999999999999999999"] {
            assert_eq!(number(text.as_bytes(), u32::MAX), None, "{text:?}");
        }
        assert_eq!(number(b"256", 255), None);
    }

    #[test]
    fn texts_are_joined_where_there_is_room() {
        let mut room = [b'-'; 5];
        let mut joined = Joined::new(&mut room);
        assert_eq!(joined.add(b"ab").add(b"").add(b"c").bytes(), b"abc");
        assert!(joined.has_room());
        assert_eq!(joined.add(b"def").bytes(), b"abcde");
        assert!(!joined.has_room());
    }

    #[test]
    fn a_base_name_is_what_follows_the_last_slash() {
        let cases: [(&[u8], &[u8]); 4] =
            [(b"/usr/bin/tini", b"tini"), (b"tini", b"tini"), (b"", b""), (b"a/", b"")];
        for (path, name) in cases {
            assert_eq!(base_name(path), name);
        }
    }
}
