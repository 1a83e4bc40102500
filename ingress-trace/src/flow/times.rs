//! How near in time a failure and what a client got must be, in nanoseconds, each with its reason.
//! Constants only.
//!
//! They decide where neither words nor threads do. They were found with real traffic on two busy cores;
//! `planes_storm` and `planes_outcomes` fail where they are far off. Slower machines were not tried.

/// A controller answers for a failure at once; on a leg that cannot be read, what comes later is the
/// answer of a retry. With 2 ms, answers of Traefik and Caddy under load were taken for retries'.
pub const AT_ONCE: u64 = 5_000_000;
/// What comes so much later is certainly another attempt's: four times [`AT_ONCE`], a margin for busy
/// controllers.
pub const LATER: u64 = 20_000_000;
/// Within which a busy controller makes an attempt that a later success may hide: above [`LEAD`],
/// since an attempt that failed speaks for its client less than an error does.
pub const LONG: u64 = 10_000_000;
/// Envoy answers all who wait for one connection within it.
pub const TOGETHER: u64 = 1_000_000;
/// What a thread does within it after it let go of an attempt is its very next step: HAProxy's took
/// 0.04 ms. The kernel side keeps its note for longer, for threads that were interrupted.
pub const NEXT_STEP: u64 = 500_000;
/// Who is told within it of what fails like a check was told of that one, and not of a queue's end: twice
/// [`NEXT_STEP`].
pub const TOLD: u64 = 1_000_000;
/// A controller connects at once, too: HAProxy within 0.1 to 0.5 ms of the request, 20 ms on a machine
/// with many times more to do than cores, where this says too little rather than too much.
pub const LEAD: u64 = 2_000_000;
/// Between letting go of an attempt and the next one for the same request, where nothing came between:
/// HAProxy redispatches within 11 to 25 us, and takes other requests up later than that.
pub const ADJACENT: u64 = 40_000;
/// From where on a longer lead says nothing more: the request arrived slowly, was authorized first, or
/// was tried before.
pub const LONG_LEAD: u64 = 50_000_000;
/// How long after a client's answer its failure may show: HAProxy answers and cuts before it lets go
/// of its backend, 0.07 ms when it is not interrupted in between.
pub const BEHIND: u64 = 20_000_000;
/// How far back the failure of a client's error may lie where the kernel side linked nothing: answers
/// follow at once, this is room for controllers that do not get to run.
pub const NEAR: u64 = 100_000_000;
/// The same where the kernel side saw one thread do both, and for ends of connections: Envoy closes
/// the connection of a client whose response was cut one second later (`delayed_close_timeout`).
pub const LINKED: u64 = 2_000_000_000;
/// Two clients that are this near each other cannot be told apart by time alone.
pub const UNCLEAR: u64 = 3_000_000;
/// How long a failed connect that a success seems to hide by chance waits for another of its kind that
/// was nobody's: several intervals of quick checks.
pub const DOUBT: u64 = 5_000_000_000;
/// The shortest time after which a controller gives up: timers are longer. As the kernel side's, which
/// tells what a client that cannot be read got so late.
pub const PATIENT: u64 = 100_000_000;
/// How long after an attempt of its request has begun a new connection's greeting may still be written:
/// Go's is on its way when the request is served, this is room for controllers that do not get to run.
pub const GREETED: u64 = 50_000_000;
