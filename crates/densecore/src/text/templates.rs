//! The chat templates of one model, by name.

use super::chat::Chat;
use super::template::ChatTemplate;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// The name of the template for what no other is made for.
pub const DEFAULT: &str = "default";
/// The name of the one for chats with tools.
const TOOLS: &str = "tool_use";

const NONE: &str = "this model has none; give the prompt as plain text or segments, in the form it was trained on";

/// Sources by name, as files hold them, and the names of the begin and end tokens.
#[derive(Debug, Default)]
pub struct Sources {
    /// Name and source.
    pub named: Vec<(String, String)>,
    /// The name of the begin token.
    pub bos: Option<String>,
    /// The name of the end token.
    pub eos: Option<String>,
}

/// Templates by name. A broken one stops chats that would use it, and nothing else.
#[derive(Debug, Clone, Default)]
pub struct Templates(Vec<(String, std::result::Result<ChatTemplate, String>)>);

impl Templates {
    /// Checks and keeps them.
    pub fn new(sources: Sources, limits: &Limits) -> Result<Self> {
        let mut templates = Vec::new();
        for (name, source) in sources.named {
            let made = match ChatTemplate::from_source(&source, sources.bos.clone(), sources.eos.clone(), limits) {
                Ok(template) => Ok(template),
                Err(Error::Template(why)) => Err(why),
                Err(error) => return Err(error),
            };
            templates.push((name, made));
        }
        Ok(Self(templates))
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The one a chat asks for: by name, or that for tools where it has some, or the default.
    pub fn choose(&self, chat: &Chat) -> Result<&ChatTemplate> {
        if self.0.is_empty() {
            return Err(Error::Template(NONE.into()));
        }
        let named = |name: &str| self.0.iter().find(|(known, _)| known == name).map(|(_, template)| template);
        let found = match &chat.template {
            Some(name) => named(name),
            None => chat.has_tools().then(|| named(TOOLS)).flatten().or_else(|| named(DEFAULT)),
        };
        if let Some(template) = found {
            return template.as_ref().map_err(|why| Error::Template(why.clone()));
        }
        let wanted = chat.template.as_ref().map_or("no default".into(), |name| format!("none named {name:?}"));
        let names: Vec<String> = self.names().map(|name| format!("{name:?}")).collect();
        Err(Error::Prompt(format!(
            "among this model's chat templates is {wanted}; choose template= from {}",
            names.join(", ")
        )))
    }
}
