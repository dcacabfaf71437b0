//! One model, many callers: whoever arrives together is computed together.
pub(crate) mod call;
pub(crate) mod combine;
pub(crate) mod pass;
