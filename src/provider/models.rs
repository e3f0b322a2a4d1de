//! Names of models: what is written around them, what each of Gemini's pools calls them, and what they are billed as.
//!
//! Source of the pools' names: opencode-antigravity-auth's model resolver.

/// The quotas a Gemini login has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GeminiPool {
    Antigravity,
    GeminiCli,
}

/// What a Gemini model's name says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct GeminiName<'a> {
    /// The name without what only we understand.
    pub(super) name: Option<&'a str>,
    /// A suffix pins the pool.
    pub(super) pinned: Option<GeminiPool>,
    /// A prefix, or what the model is, says where it starts.
    pub(super) starts_on: Option<GeminiPool>,
}

const PREFIX: &str = "antigravity-";
/// How much a model thinks, which Antigravity has in its names.
const TIERS: [&str; 4] = ["-low", "-medium", "-high", "-minimal"];
const PREVIEWS: [&str; 2] = ["-preview-customtools", "-preview"];

impl GeminiPool {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Antigravity => "antigravity",
            Self::GeminiCli => "gemini-cli",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Antigravity, Self::GeminiCli].into_iter().find(|pool| pool.name() == name)
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Antigravity => Self::GeminiCli,
            Self::GeminiCli => Self::Antigravity,
        }
    }

    /// What this pool calls the model.
    pub(super) fn model_name(self, model: &str) -> String {
        if !model.starts_with("gemini-3") || !has_two_pools(model) {
            return model.to_owned();
        }
        match self {
            Self::Antigravity => {
                let name = without(model, &PREVIEWS);
                if name.ends_with("-pro") { format!("{name}-low") } else { name.to_owned() }
            }
            Self::GeminiCli if without(model, &PREVIEWS) != model => model.to_owned(),
            Self::GeminiCli => format!("{}-preview", without(model, &TIERS)),
        }
    }
}

/// Reads a Gemini model's name.
pub(super) fn gemini(model: Option<&str>) -> GeminiName<'_> {
    let Some(model) = model else { return GeminiName::default() };
    let suffixed = model.rsplit_once(':').and_then(|(name, pool)| Some((name, GeminiPool::named(pool)?)));
    let (name, pinned) = suffixed.map_or((model, None), |(name, pool)| (name, Some(pool)));
    let (name, prefixed) = name.strip_prefix(PREFIX).map_or((name, false), |name| (name, true));
    let starts_on = (prefixed || !has_two_pools(name)).then_some(GeminiPool::Antigravity);
    GeminiName { name: Some(name), pinned, starts_on }
}

/// Whether both pools know the model: images are Antigravity's alone.
pub(super) fn has_two_pools(model: &str) -> bool {
    !model.contains("image")
}

/// The name of a Gemini model without tier and preview: what its quota is filed under.
pub(super) fn base(model: &str) -> &str {
    if model.starts_with("gemini-3") { without(without(model, &PREVIEWS), &TIERS) } else { undated(model) }
}

/// The name without the date of its snapshot.
pub(super) fn undated(model: &str) -> &str {
    let model = model.strip_suffix("-latest").unwrap_or(model);
    let bytes = model.as_bytes();
    for form in ["-dddddddd", "-dddd-dd-dd"] {
        let Some(start) = bytes.len().checked_sub(form.len()).filter(|start| *start > 0) else { continue };
        let fits = |(letter, form): (&u8, u8)| if form == b'd' { letter.is_ascii_digit() } else { *letter == form };
        if bytes[start..].iter().zip(form.bytes()).all(fits) {
            // proof: an ASCII dash stands there, so it is the start of a letter
            return model.get(..start).unwrap_or(model);
        }
    }
    model
}

fn without<'a>(model: &'a str, endings: &[&str]) -> &'a str {
    endings.iter().find_map(|ending| model.strip_suffix(ending)).unwrap_or(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// opencode-antigravity-auth's own cases.
    #[test]
    fn pools_have_their_own_names() {
        for (model, pool, name) in [
            ("gemini-3-flash-preview", "antigravity", "gemini-3-flash"),
            ("gemini-3-pro-preview", "antigravity", "gemini-3-pro-low"),
            ("gemini-3.1-pro-preview-customtools", "antigravity", "gemini-3.1-pro-low"),
            ("gemini-3-flash", "gemini-cli", "gemini-3-flash-preview"),
            ("gemini-3-pro-low", "gemini-cli", "gemini-3-pro-preview"),
            ("gemini-3.1-pro-preview-customtools", "gemini-cli", "gemini-3.1-pro-preview-customtools"),
            ("gemini-2.5-flash", "gemini-cli", "gemini-2.5-flash"),
        ] {
            assert_eq!(GeminiPool::named(pool).unwrap().model_name(model), name, "{model} in {pool}");
        }
    }

    #[test]
    fn dates_are_no_part_of_a_model() {
        for (model, name) in [
            ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("claude-3-5-haiku-latest", "claude-3-5-haiku"),
            ("gpt-5-2025-08-07", "gpt-5"),
            ("gpt-4-0613", "gpt-4-0613"),
            ("-20250929", "-20250929"),
            ("é-20250929", "é"),
            ("20250929", "20250929"),
            ("", ""),
        ] {
            assert_eq!(undated(model), name);
        }
    }
}
