//! Text to tokens and back, and the chat template.
mod bpe;
pub mod chat;
pub mod files;
mod guard;
mod json;
pub mod pretokenizer;
mod reads;
mod sentinel;
mod special;
pub mod stream;
mod table;
pub mod template;
mod template_functions;
mod template_json;
mod template_time;
mod template_values;
pub mod templates;
pub mod tokenizer;
mod unicode;
mod view;

pub use chat::{Chat, Ending, Given, Message, Piece};
pub use pretokenizer::PreTokenizer;
pub use stream::TokenStream;
pub use template::{ChatTemplate, Encoded, Rendered};
pub use templates::Templates;
pub use tokenizer::{Special, Tokenizer, Vocabulary};
