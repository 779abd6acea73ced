//! A line of text that a signal handler puts together: of fixed size, without a panic and without
//! an allocation.

const SIZE: usize = 600;

pub(super) struct Line {
    bytes: [u8; SIZE],
    length: usize,
}

impl Line {
    pub(super) const fn new() -> Self {
        Line { bytes: [0; SIZE], length: 0 }
    }

    /// What does not fit is left out.
    pub(super) fn push(&mut self, text: &[u8]) {
        for byte in text {
            // The last one is for the newline.
            if self.length + 1 < SIZE {
                self.bytes[self.length] = *byte;
                self.length += 1;
            }
        }
    }

    pub(super) fn hex(&mut self, number: u64) {
        let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
        for digit in (0..digits).rev() {
            let value = (number >> (4 * digit)) & 0xf;
            self.push(&[b"0123456789abcdef"[value as usize]]);
        }
    }

    /// The whole, with a newline.
    pub(super) fn ended(&mut self) -> &[u8] {
        let end = self.length.min(SIZE - 1);
        self.bytes[end] = b'\n';
        &self.bytes[..=end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_texts_and_numbers_and_no_more_than_fits() {
        let mut line = Line::new();
        line.push(b"evt_");
        for number in [0, 0xf, 0x10, u64::MAX] {
            line.hex(number);
            line.push(b" ");
        }
        assert_eq!(line.ended(), b"evt_0 f 10 ffffffffffffffff \n");
        line.push(&[b'x'; 2 * SIZE]);
        assert_eq!(line.ended().len(), SIZE);
        assert!(line.ended().ends_with(b"x\n"));
    }
}
