//! Routes as the API writes them: Ingress, and those of the Gateway API.
pub(super) mod class;
pub(super) mod gateway;
pub(super) mod ingress;
#[cfg(test)]
mod tests;
