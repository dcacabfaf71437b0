//! Text to tokens and back, and the chat template.
mod bpe;
pub mod files;
mod guard;
mod json;
pub mod pretokenizer;
mod sentinel;
mod special;
pub mod stream;
mod table;
pub mod template;
mod template_functions;
mod template_json;
mod template_time;
mod template_values;
pub mod tokenizer;
mod unicode;

pub use pretokenizer::PreTokenizer;
pub use stream::TokenStream;
pub use template::{ChatTemplate, Encoded, Message, Piece, Rendered};
pub use tokenizer::{Special, Tokenizer, Vocabulary};
