//! Struct offsets from the kernel's BTF.
