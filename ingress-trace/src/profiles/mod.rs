//! What each data plane is like.
