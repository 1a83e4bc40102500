//! One file per kernel hook; each translates its context and calls the state machine.
mod connect;
mod packet;
mod sock_ops;
mod sock_release;
mod sock_state;
mod sockets;
