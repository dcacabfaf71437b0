//! From prompts to answers, states, scores and thoughts.
pub mod answer;
pub(crate) mod forms;
pub mod grammar;
pub mod options;
pub mod penalties;
pub mod prompt;
pub mod random;
pub mod sampler;
pub mod score;
pub mod states;
pub(crate) mod step;
mod stop;
pub mod think;
pub mod usage;
pub mod writer;

pub use crate::cancel::{self, Cancel};
pub use answer::Generation;
pub use grammar::Grammar;
pub use options::GenerateOptions;
pub use penalties::Penalties;
pub use prompt::{Prompt, Segment, Turn};
pub use sampler::Sampling;
pub use score::Score;
pub use states::{Pooling, Readout, Tap};
pub use think::{Mode, Thinking, Thought};
pub use usage::Usage;
pub use writer::{Event, Finish, TokenLogprob};
