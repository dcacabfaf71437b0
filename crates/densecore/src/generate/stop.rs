//! Stop strings, found although they may be spread over tokens.

/// Watches a growing text for the earliest stop string and holds back what could be the beginning of one.
#[derive(Debug, Clone, Default)]
pub struct Stops {
    stops: Vec<String>,
    /// Text not yet released.
    held: String,
}

impl Stops {
    /// Watches for any of `stops`, none of them empty.
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Takes more text; returns what is certainly not part of a stop string, and whether one was found. After a find
    /// the text before it is returned and the rest is dropped.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        let found = self.stops.iter().filter_map(|s| self.held.find(s.as_str())).min();
        if let Some(at) = found {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self
            .held
            .char_indices()
            .map(|(i, _)| i)
            .find(|&i| self.stops.iter().any(|s| s.starts_with(&self.held[i..])))
            .unwrap_or(self.held.len());
        let rest = self.held.split_off(keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// Takes more text in which no stop counts, and returns it with what was held back.
    pub fn pass(&mut self, text: &str) -> String {
        let mut all = std::mem::take(&mut self.held);
        all.push_str(text);
        all
    }

    /// What is still held back when no more text comes.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_stops_across_pieces_and_releases_the_rest() {
        let mut stops = Stops::new(vec!["\n\n".into(), "END".into()]);
        assert_eq!(stops.push("a\n"), ("a".into(), false));
        assert_eq!(stops.push("b E"), ("\nb ".into(), false));
        assert_eq!(stops.push("Nx E"), ("ENx ".into(), false));
        assert_eq!(stops.push("ND more"), (String::new(), true));
        let mut none = Stops::new(vec!["xyz".into()]);
        assert_eq!(none.push("axy").0, "a");
        assert_eq!(none.finish(), "xy");
    }
}
