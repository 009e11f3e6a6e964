//! The labels of a thing: one rule set for every signal.
