//! What must be there before anything is loaded.
