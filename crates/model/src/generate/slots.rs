//! Which places of a cache are free.

/// Stretches of free cache slots, sorted and never adjacent.
#[derive(Debug)]
pub struct Slots {
    free: Vec<(usize, usize)>,
}

impl Slots {
    /// All of `0..count` free.
    pub fn new(count: usize) -> Self {
        Slots { free: vec![(0, count)] }
    }

    /// The start of `len` slots in one piece, which are taken now; `None` where there is no such piece.
    pub fn take(&mut self, len: usize) -> Option<usize> {
        let index = self.free.iter().position(|&(_, free)| free >= len)?;
        let (start, free) = self.free[index];
        if free == len {
            self.free.remove(index);
        } else {
            self.free[index] = (start + len, free - len);
        }
        Some(start)
    }

    /// Frees what was taken.
    pub fn give_back(&mut self, start: usize, len: usize) {
        let index = self.free.partition_point(|&(s, _)| s < start);
        self.free.insert(index, (start, len));
        if let Some(&(next, more)) = self.free.get(index + 1).filter(|&&(next, _)| start + len == next) {
            debug_assert!(next >= start);
            self.free[index].1 += more;
            self.free.remove(index + 1);
        }
        if index > 0 && self.free[index - 1].0 + self.free[index - 1].1 == start {
            self.free[index - 1].1 += self.free[index].1;
            self.free.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_given_back_grow_together_again() {
        let mut slots = Slots::new(10);
        let (a, b, c) = (slots.take(3).unwrap(), slots.take(4).unwrap(), slots.take(3).unwrap());
        assert_eq!((a, b, c, slots.take(1)), (0, 3, 7, None));
        slots.give_back(a, 3);
        slots.give_back(c, 3);
        assert_eq!(slots.take(4), None);
        slots.give_back(b, 4);
        assert_eq!(slots.free, [(0, 10)]);
    }
}
