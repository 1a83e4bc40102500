//! What the controller itself is short of.
