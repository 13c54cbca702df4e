//! Files to log-probs and text.
