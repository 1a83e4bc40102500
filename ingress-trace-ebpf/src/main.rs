//! The kernel side: one hook per file under `hooks`, one per-socket state machine in `conn`, one
//! writer of samples in `emit`. Nothing here blocks, changes or delays traffic.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "sequence numbers are compared by their wrapped difference"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "aya's macros hand a context over by value"
)]
#![allow(
    clippy::cast_ptr_alignment,
    reason = "kernel addresses, read by bpf_probe_read_kernel only"
)]
#![allow(
    clippy::no_mangle_with_rust_abi,
    reason = "entry points are found by name; their one argument is the context"
)]

mod conn;
mod count;
mod emit;
mod exchange;
mod hooks;
mod link;
mod maps;
mod outcome;
mod payload;
mod sock;
mod unreadable;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // The verifier proves that this is never reached; there is no unwinding to do.
    loop {}
}
