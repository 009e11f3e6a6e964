//! Real servers that receive what kovar sends.
