//! Variables that would lead an agent past what `run` hands it: to another credential, endpoint or service.
//!
//! A recipe sets some of them; the others would conflict (two credentials would both be sent, a key must not go to
//! another host, and the headers of `OPENAI_ORG_ID` and the like belong to the replaced account) and are unset.

/// The variables of a vendor's programs.
pub(super) struct Switches {
    pub(super) vendor: &'static str,
    /// Their names, with spaces between them.
    names: &'static str,
    /// Those that are named after a pattern, also in later versions of the programs.
    patterns: &'static [NamePattern],
}

/// How variables of one purpose are named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NamePattern {
    begins: &'static str,
    ends: &'static str,
    /// Variables of another purpose that are named so, too.
    except: &'static [&'static str],
}

const fn named(begins: &'static str, ends: &'static str) -> NamePattern {
    NamePattern { begins, ends, except: &[] }
}

pub(super) const SWITCHES: &[Switches] = &[
    Switches {
        vendor: "anthropic",
        names: "ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_BASE_URL ANTHROPIC_UNIX_SOCKET \
                ANTHROPIC_PROFILE ANTHROPIC_FEDERATION_RULE_ID ANTHROPIC_IDENTITY_TOKEN \
                ANTHROPIC_IDENTITY_TOKEN_FILE CLAUDE_CODE_OAUTH_TOKEN CLAUDE_CODE_OAUTH_REFRESH_TOKEN \
                CLAUDE_CODE_OAUTH_SCOPES CLAUDE_CODE_OAUTH_CLIENT_ID CLAUDE_CODE_SUBSCRIPTION_TYPE \
                CLAUDE_CODE_RATE_LIMIT_TIER CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR \
                CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR CLAUDE_CODE_GATEWAY_TOKEN_FILE_DESCRIPTOR \
                CLAUDE_CODE_HOST_CREDS_FILE CLAUDE_CODE_HOST_AUTH_ENV_VAR CLAUDE_CODE_HOST_GATEWAY_LINEAGE \
                CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST CLAUDE_CODE_SDK_HAS_OAUTH_REFRESH \
                CLAUDE_CODE_SDK_HAS_HOST_AUTH_REFRESH CLAUDE_CODE_API_BASE_URL CLAUDE_CODE_CUSTOM_OAUTH_URL \
                CLAUDE_CODE_RUNNER_MODEL_SOCKET CCR_OAUTH_TOKEN_FILE _CLAUDE_CODE_ASSUME_FIRST_PARTY_BASE_URL",
        patterns: &[
            // the clouds, and what a later version adds
            NamePattern {
                begins: "CLAUDE_CODE_USE_",
                ends: "",
                except: &[
                    "CLAUDE_CODE_USE_COWORK_PLUGINS",
                    "CLAUDE_CODE_USE_NATIVE_FILE_SEARCH",
                    "CLAUDE_CODE_USE_POWERSHELL_TOOL",
                ],
            },
            named("ANTHROPIC_", "_BASE_URL"),
        ],
    },
    Switches {
        vendor: "openai",
        names: "OPENAI_API_KEY OPENAI_BASE_URL OPENAI_API_BASE OPENAI_API_TYPE OPENAI_ORG_ID OPENAI_ORGANIZATION \
                OPENAI_PROJECT_ID AZURE_OPENAI_ENDPOINT AZURE_OPENAI_API_KEY AZURE_OPENAI_AD_TOKEN \
                CODEX_API_KEY CODEX_ACCESS_TOKEN",
        patterns: &[named("OPENAI_", "_BASE_URL"), named("CODEX_", "_BASE_URL")],
    },
    Switches {
        vendor: "google",
        names: "GEMINI_API_KEY GOOGLE_API_KEY GOOGLE_GENERATIVE_AI_API_KEY GOOGLE_GEMINI_BASE_URL \
                GOOGLE_VERTEX_BASE_URL GOOGLE_CLOUD_ACCESS_TOKEN GOOGLE_GENAI_USE_GCA GOOGLE_GENAI_USE_VERTEXAI \
                GEMINI_API_KEY_AUTH_MECHANISM GEMINI_CLI_USE_COMPUTE_ADC GEMINI_DEFAULT_AUTH_TYPE \
                CODE_ASSIST_ENDPOINT CODE_ASSIST_API_VERSION",
        patterns: &[
            named("GOOGLE_GENAI_USE_", ""),
            named("GOOGLE_", "_BASE_URL"),
            named("GEMINI_", "_BASE_URL"),
            named("AGY_LLM_GATEWAY_", ""),
        ],
    },
];

impl Switches {
    pub(super) fn of(vendor: &str) -> Option<&'static Self> {
        SWITCHES.iter().find(|of| of.vendor == vendor)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.names.split_ascii_whitespace()
    }

    pub(super) fn patterns(&self) -> &'static [NamePattern] {
        self.patterns
    }

    fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name) || self.patterns.iter().any(|pattern| pattern.fits(name))
    }
}

impl NamePattern {
    pub(super) fn fits(&self, name: &str) -> bool {
        let rest = name.strip_prefix(self.begins).filter(|rest| !rest.is_empty());
        rest.is_some_and(|rest| rest.ends_with(self.ends)) && !self.except.contains(&name)
    }

    /// Whether variables of a vendor are named so that begin like this.
    pub(super) fn is_of(&self, beginning: &str) -> bool {
        self.begins.starts_with(beginning)
    }
}

/// Whether the programs of a vendor read a credential, an endpoint or the choice of a service from a variable.
#[must_use]
pub fn is_credential_variable(vendor: &str, name: &str) -> bool {
    Switches::of(vendor).is_some_and(|of| of.has(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_later_versions_are_known_by_their_names() {
        for (vendor, name, expected) in [
            ("anthropic", "CLAUDE_CODE_USE_BEDROCK", true),
            ("anthropic", "CLAUDE_CODE_USE_ANTHROPIC_AWS", true),
            ("anthropic", "CLAUDE_CODE_USE_MANTLE", true),
            ("anthropic", "CLAUDE_CODE_USE_GATEWAY", true),
            ("anthropic", "CLAUDE_CODE_USE_A_LATER_CLOUD", true),
            ("anthropic", "CLAUDE_CODE_USE_", false),
            ("anthropic", "CLAUDE_CODE_USE_POWERSHELL_TOOL", false),
            ("anthropic", "ANTHROPIC_VERTEX_BASE_URL", true),
            ("anthropic", "ANTHROPIC_BEDROCK_MANTLE_BASE_URL", true),
            ("anthropic", "ANTHROPIC_MODEL", false),
            ("anthropic", "MY_ANTHROPIC_X_BASE_URL", false),
            ("anthropic", "AWS_ENDPOINT_URL", false),
            ("anthropic", "OPENAI_API_KEY", false),
            ("openai", "OPENAI_NEXT_BASE_URL", true),
            ("openai", "OPENAI_MODEL", false),
            ("google", "GOOGLE_GENAI_USE_ENTERPRISE", true),
            ("google", "GOOGLE_CLOUD_PROJECT", false),
            ("other", "ANTHROPIC_API_KEY", false),
        ] {
            assert_eq!(is_credential_variable(vendor, name), expected, "{vendor} {name}");
        }
    }
}
