//! Architectures as data: one file a family, and one line for it here.
//!
//! A family says how it computes ([`Blueprint`]), what its files call its tensors and settings, and which settings it
//! takes. The readers in `weights` and the layers in `model` do the rest.

pub mod blueprint;
pub mod config;
mod gemma3;
mod llama;
mod mistral;
mod phi2;
mod qwen2;
mod qwen3;
pub mod role;
pub mod rotary;

pub use blueprint::Blueprint;
pub use config::{Local, ModelConfig};
pub use role::{FileKind, Part, Role};
pub use rotary::{Rotary, Scaling};

use crate::error::Error;
use role::Names;
use std::fmt;

/// Every family: a new one is a file of its own and a name here.
static FAMILIES: [&Family; 6] =
    [&qwen2::FAMILY, &qwen3::FAMILY, &llama::FAMILY, &mistral::FAMILY, &phi2::FAMILY, &gemma3::FAMILY];

/// What is known of a family of models.
#[derive(Debug)]
pub struct Family {
    /// Its name, in GGUF files and here.
    pub name: &'static str,
    /// The class that config.json names.
    pub class: &'static str,
    /// For people.
    pub title: &'static str,
    /// How it computes.
    pub blueprint: Blueprint,
    /// Names of tensors in GGUF files that differ from the usual; none if such files are of another family's name.
    pub gguf: Option<Names>,
    /// Names of tensors in folders that differ from the usual.
    pub folder: Names,
    /// Tensors that hold several parts one after the other, by rows: some files have them instead of the parts.
    pub joined: &'static [(&'static [Part], FileKind, &'static str)],
    /// What config.json calls its numbers, and what it means where it says nothing.
    pub settings: Settings,
}

/// How a family's config.json is read.
#[derive(Debug)]
pub struct Settings {
    /// The key of the activation.
    pub activation: &'static str,
    /// Whether the file must name one.
    pub needs_activation: bool,
    /// The key of the norms' epsilon, and its value if the file is silent.
    pub epsilon: (&'static str, f64),
    /// Width of a head where the file is silent; the even share of the width without.
    pub head_dim: Option<usize>,
    /// Share of a head that rotates where the file is silent.
    pub rotary_share: f64,
    /// Whether `query_pre_attn_scalar` sets the scale of attention.
    pub query_scalar: bool,
    /// Whether the head is tied to the embedding where the file is silent.
    pub tied: bool,
    /// Sliding windows.
    pub windows: Windows,
    /// Keys that change the result and are refused elsewhere, but here are part of the blueprint when they are true.
    pub expected: &'static [&'static str],
}

/// Which layers have windows if config.json gives one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Windows {
    /// None, and `sliding_window` alone is refused unless a list of layers says that all see everything.
    Refused,
    /// None, unless `use_sliding_window` says so: then from `max_window_layers` on, which is refused.
    Switched,
    /// All.
    All,
    /// Those that `layer_types` lists, or all but each sixth; they rotate with a base of their own.
    Listed {
        /// That base where the file is silent.
        base: f64,
        /// One layer of so many sees everything where the file is silent.
        every: usize,
    },
}

impl Settings {
    /// What most families have.
    pub const USUAL: Self = Self {
        activation: "hidden_act",
        needs_activation: false,
        epsilon: ("rms_norm_eps", 1e-6),
        head_dim: None,
        rotary_share: 1.0,
        query_scalar: false,
        tied: false,
        windows: Windows::Switched,
        expected: &[],
    };
}

/// A family of models that this engine computes.
#[derive(Clone, Copy)]
pub struct Arch(&'static Family);

impl Arch {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        FAMILIES.iter().map(|family| Self(family))
    }

    /// The family of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|arch| arch.name() == name)
    }

    /// The family of a class in config.json.
    pub fn from_class(class: &str) -> Option<Self> {
        Self::all().find(|arch| arch.0.class == class)
    }

    /// What is known of it.
    pub fn family(self) -> &'static Family {
        self.0
    }

    /// The name used in GGUF files and in `model_type`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// What a kind of file calls a tensor.
    pub fn tensor_name(self, role: Role, kind: FileKind) -> String {
        let own = match kind {
            FileKind::Gguf => self.0.gguf.unwrap_or(&[]),
            FileKind::Folder => self.0.folder,
        };
        role::name(role, kind, own)
    }

    /// All of them in words, for messages.
    pub fn supported() -> String {
        let names: Vec<String> = FAMILIES.iter().map(|family| format!("{} ({})", family.title, family.class)).collect();
        match names.split_last() {
            Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
            None => String::new(),
        }
    }

    /// Refuses an architecture by name.
    pub(crate) fn unknown(name: &str) -> Error {
        Error::unsupported("the architecture", format!("{name:?}"), format!("use a model of {}", Self::supported()))
    }
}

impl PartialEq for Arch {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Arch {}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
