//! Builds subjects, records them with the built binary and reads profiles back with a decoder of its own.
