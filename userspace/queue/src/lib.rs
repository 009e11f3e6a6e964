//! A bounded log of opaque records with a cursor per destination.
