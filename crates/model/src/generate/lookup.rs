//! Guessing the next tokens from the text itself: what followed the last few tokens where they stood before (prompt lookup).
//! Where an answer copies from its prompt, many guesses are right. Guesses cost time and never change an answer: the scheduler
//! keeps those that the model chooses too.

/// The longest run of last tokens that is looked for.
const LONGEST: usize = 4;
/// The shortest.
const SHORTEST: usize = 2;

/// How far one row guesses: less after wrong guesses, more after right ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    now: usize,
    most: usize,
}

impl Reach {
    /// At most `most` tokens at a time; 0 for none at all.
    pub fn new(most: usize) -> Self {
        Reach { now: most, most }
    }

    /// Takes in that `right` of `guessed` tokens were right.
    pub fn learn(&mut self, guessed: usize, right: usize) {
        if guessed == 0 {
            return;
        }
        self.now = if right == guessed { self.now * 2 } else { right + 1 }.clamp(1, self.most.max(1));
    }

    /// How many tokens to guess, of at most `room`.
    pub fn tokens(self, room: usize) -> usize {
        if self.most == 0 { 0 } else { self.now.min(room) }
    }
}

/// At most `count` tokens that followed the last tokens of `text` (the prompt, then what was generated) at an earlier place: the
/// place that has the most of them in common, the last such place. Empty where there is none.
pub fn guess(prompt: &[u32], new: &[u32], count: usize) -> Vec<u32> {
    let total = prompt.len() + new.len();
    let at = |i: usize| if i < prompt.len() { prompt[i] } else { new[i - prompt.len()] };
    if count == 0 || total <= SHORTEST {
        return Vec::new();
    }
    // `end` is the place after a run of tokens that equals the last ones.
    let common =
        |end: usize| (0..LONGEST.min(end)).take_while(|&i| at(end - 1 - i) == at(total - 1 - i)).count();
    let mut found = (SHORTEST - 1, 0);
    for end in (SHORTEST..total).rev() {
        if at(end - 1) == at(total - 1) {
            let length = common(end);
            if length > found.0 {
                found = (length, end);
            }
            if length == LONGEST {
                break;
            }
        }
    }
    if found.1 == 0 { Vec::new() } else { (found.1..total.min(found.1 + count)).map(at).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_and_then_the_last_match_is_continued() {
        let prompt = [1, 2, 3, 4, 5, 9, 2, 3, 7, 8];
        assert_eq!(guess(&prompt, &[2, 3], 3), [7, 8, 2]);
        assert_eq!(guess(&prompt, &[1, 2, 3], 3), [4, 5, 9]);
        assert_eq!(guess(&prompt, &[1, 2, 3], 1), [4]);
        assert_eq!(guess(&prompt, &[6, 3], 3), [0u32; 0], "one token in common is too little");
        assert_eq!(guess(&prompt, &[], 3), [0u32; 0]);
        assert_eq!(guess(&[1, 1, 1], &[], 4), [1]);
        assert_eq!(guess(&prompt, &[2, 3], 0), [0u32; 0]);
        assert_eq!(guess(&[5], &[], 2), [0u32; 0]);
    }

    #[test]
    fn a_row_that_guesses_wrong_guesses_less() {
        let mut reach = Reach::new(8);
        assert_eq!((reach.tokens(100), reach.tokens(3), Reach::new(0).tokens(9)), (8, 3, 0));
        reach.learn(8, 2);
        assert_eq!(reach.tokens(100), 3);
        reach.learn(3, 0);
        assert_eq!(reach.tokens(100), 1);
        reach.learn(0, 0);
        reach.learn(1, 1);
        assert_eq!(reach.tokens(100), 2);
        (0..4).for_each(|_| reach.learn(2, 2));
        assert_eq!(reach.tokens(100), 8);
    }
}
