//! (placeholder, replaced below)
