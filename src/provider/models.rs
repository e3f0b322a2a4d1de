//! Model names: prefixes and suffixes, the name in each Gemini pool, and the name without its date.
//!
//! Source of the names in the pools: the model resolver of opencode-antigravity-auth.

/// The quota pools of a Gemini login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GeminiPool {
    Antigravity,
    GeminiCli,
}

/// The parts of a Gemini model name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct GeminiName<'a> {
    /// The name without lessor's prefix and suffix.
    pub(super) name: Option<&'a str>,
    /// The pool of the suffix, which is mandatory.
    pub(super) pinned: Option<GeminiPool>,
    /// The pool to start on, from the prefix or the model itself.
    pub(super) starts_on: Option<GeminiPool>,
}

const PREFIX: &str = "antigravity-";
/// Names that agents put before a model to say which vendor's it is; a Google login also serves Claude models.
const GOOGLE: &[&str] = &["google/", "anthropic/"];
/// The thinking levels, which are part of Antigravity's names.
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

    /// The model's name in this pool.
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
/// The model's name without the vendor's, as in `openai/gpt-5`. Providers that resell the models of several vendors
/// keep it: it is part of their names.
pub(super) fn without_vendor<'a>(provider: &str, model: &'a str) -> &'a str {
    let vendors = match provider {
        "google" => GOOGLE,
        "anthropic" => &["anthropic/"],
        "openai" => &["openai/"],
        _ => &[],
    };
    let name = vendors.iter().find_map(|vendor| model.strip_prefix(vendor));
    name.filter(|name| !name.is_empty()).unwrap_or(model)
}

pub(super) fn gemini(model: Option<&str>) -> GeminiName<'_> {
    let Some(model) = model.map(|model| without_vendor("google", model)) else { return GeminiName::default() };
    let suffixed = model.rsplit_once(':').and_then(|(name, pool)| Some((name, GeminiPool::named(pool)?)));
    let (name, pinned) = suffixed.map_or((model, None), |(name, pool)| (name, Some(pool)));
    let (name, prefixed) = name.strip_prefix(PREFIX).map_or((name, false), |name| (name, true));
    let starts_on = (prefixed || !has_two_pools(name)).then_some(GeminiPool::Antigravity);
    GeminiName { name: Some(name), pinned, starts_on }
}

/// Whether both pools serve the model: Antigravity alone serves images.
pub(super) fn has_two_pools(model: &str) -> bool {
    !model.contains("image")
}

/// The name of a Gemini model without level and preview, which its quota is filed under.
pub(super) fn base(model: &str) -> &str {
    if model.starts_with("gemini-3") { without(without(model, &PREVIEWS), &TIERS) } else { undated(model) }
}

/// The name without its snapshot date.
pub(super) fn undated(model: &str) -> &str {
    let model = model.strip_suffix("-latest").unwrap_or(model);
    let bytes = model.as_bytes();
    for form in ["-dddddddd", "-dddd-dd-dd"] {
        let Some(start) = bytes.len().checked_sub(form.len()).filter(|start| *start > 0) else { continue };
        let fits = |(letter, form): (&u8, u8)| if form == b'd' { letter.is_ascii_digit() } else { *letter == form };
        if bytes[start..].iter().zip(form.bytes()).all(fits) {
            // proof: an ASCII dash is at this index, so it is a character boundary
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

    /// The test cases of opencode-antigravity-auth.
    #[test]
    fn each_pool_has_its_model_names() {
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
    fn the_snapshot_date_is_removed() {
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
