//! States that last: a disabled account, a missing licence, a model that the plan lacks.
//!
//! A state is read clause by clause, in time linear in the text: the clause names the account, the organisation, the
//! project, the key or the model, and says what is wrong with it. A refusal that names none of them may pass without a change.

use super::codes;
use super::error_body::ErrorBody;

/// What a refusal says lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::limits) enum Lasting {
    /// The account, its organisation, project or key may do nothing.
    Account,
    /// The account lacks the model, or something that the request asks of the model, such as a beta.
    Model,
    /// This kind of login lacks what the request asks for in addition: its other requests still work.
    Login,
}

/// Codes of an account's state.
const ACCOUNT_CODES: &str = "servicedisabled consumersuspended consumerinvalid userprojectdenied projectdenied \
     resourceprojectinvalid projectdisabled projectarchived accountdeactivated accountdisabled accountsuspended \
     accountbanned accounttemporarilylocked userdisabled userdeactivated userbanned usersuspended deactivatedworkspace \
     workspacedeactivated organizationdisabled organizationdeactivated organizationsuspended oauthorgnotallowed \
     tosviolation termsofserviceviolation subscriptionrequired iampermissiondenied apikeyserviceblocked \
     apikeydisabled apikeyleaked billingdisabled accessterminated unsupportedclient ineligibleaccount \
     securitypolicyviolated orgrestrictionviolation";
/// Codes of a model that the plan lacks.
const MODEL_CODES: &str = "modelnotallowed modelaccessdenied modelnotavailableforplan modelnotinplan modelnotincluded \
     modelnotenabled modelnotavailable modelnotsupported modelpermissiondenied modelpermissionblocked \
     modelpermissionblockedproject modelpermissionblockedorg keymodelaccessdenied teammodelaccessdenied \
     usermodelaccessdenied orgmodelaccessdenied projectmodelaccessdenied unavailablemodel allocationquotafreetieronly";
/// Codes of a model that this account does not see. As the status of a proxy's own failure, they may pass.
const MISSING_CODES: &str = "modelnotfound modelnotfounderror modelnotexist modelnotexists modeldoesnotexist unknownmodel \
     invalidmodel nosuchmodel deploymentnotfound";

/// Words for a model. Names of models count too.
const MODEL: &str = "model|gpt-|claude-|opus|sonnet|haiku|claude fable|gemini-|gemini 2|gemini 3|glm-|kimi-|grok-|deepseek-|qwen|\
     deployment|模型";
/// The account does not see the model, which another one may see.
const MISSING: &str = "not found|not be found|does not exist|doesn't exist|not exist|unknown model|no such model|invalid model|\
     not a valid model|identifier is invalid|could not resolve|unavailable model|unable to access|no access|not have access|\
     unknown provider for|no endpoints|no allowed providers|不存在|无权|未开放";
/// Such a clause is about the path of the request, or quotes a value of it.
const PATH: &str = "post /|get /|url|no route|route not|path |invalid value";
/// Words for what an account is, belongs to or identifies itself with.
const ACCOUNT: &str = "account|organization|organisation|workspace|api key|api_key|apikey|license|licence|subscription|tenant|your team|this team|named user|your access|this user|the user|your user|\
     账号|账户|用户|令牌|密钥";
/// What is wrong with it, whichever of them it is.
const ENDED: &str = "disabled|deactivated|suspended|banned|terminated|denied access|been blocked|is blocked|was blocked|\
     restricted|as leaked|been leaked|was leaked|compromised|been closed|is closed|been deleted|was deleted|archived|\
     been locked|is locked|frozen|inactive|not active|no longer active|violat|not allowed for|not allowed to use|\
     not enabled for|not have access|no access to|not have a valid|without a valid| lack|no valid|ineligible|not eligible|\
     not entitled|not permitted|not licensed|not authorized for this org|must be a named user|封禁|锁定|禁用|停用|冻结|不可用";
/// The same of a project, which a request can also name wrongly.
const PROJECT_ENDED: &str = "denied|disabled|suspended|not found|not be found|does not exist|doesn't exist|not exist|deleted|\
     has not been used|missing|is required|invalid|unknown project|archived|shut down|inactive|no project|lacks|restricted";
/// The plan lacks the model, whatever else the clause says.
const NOT_IN_PLAN: &str = "not supported when using|not have access to|n't have access to|no access to|not include access|\
     not yet include access|requires a subscription|requires a paid|requires a pro|requires a plus|requires a max|\
     requires an upgrade|must be verified to|not authorized to use|not authorized to access|not allowed to use|\
     not allowed to access|not permitted to use|not permitted to access|not able to use|n't able to use|unable to use|\
     not currently able to|not yet able to|no longer able to|not have permission|access denied|access to model denied|\
     access is denied|not been submitted|marked by provider as legacy|\
     blocked at the|blocked for your|access to model|access to the model|to use the model|use this model|not entitled to";
/// The plan lacks the model if the clause also names the plan.
const UNAVAILABLE: &str = "not available|not yet available|not currently available|n't available|unavailable|not supported|n't supported|not included|not include|\
     n't include|not enabled|not allowed|not permitted|only available|upgrade|requires|not offered|not part of|incompatible with|permission denied";
const PLAN: &str = "plan|subscription|tier| users| customers| members|your account|this account|chatgpt account|organization|organisation|your project|\
     your workspace|this workspace|your team|license|licence|paid|for free|permission denied";
const KIND_OF_LOGIN: &str = "authentication style";
/// What is offered without payment; another account may pay.
const FREE: &str = "free tier|free plan|free trial|free quota|unpaid tier";
/// Parts of a request that an account can lack while its other requests work.
const FEATURE: &str = "fast mode|fast-mode|long context|1m context|context-1m| beta|web search|web_search|computer use|\
     code execution| tool|structured output|service tier|service_tier|priority|extended thinking|batch|files api|image generation|\
     data retention|endpoint|parameter";
/// A clause with one of these words, or with such a beginning, states something.
const VERBS: &str = " is | has | was | been | are |'s |'re | does | do |n't | not | no | must | lack|已|被|不可用";
const STARTS: &str = "account|organization|organisation|workspace|api key|subscription|project|permission|resource|your|this|the |unknown project|invalid project|no ";
/// Such a clause speaks of what could happen.
const HYPOTHETICAL: &str = " may | might | would |if |unless|to avoid|to prevent";

fn has(text: &str, phrases: &str) -> bool {
    phrases.split('|').any(|phrase| text.contains(phrase))
}

/// Whether a code names a state that lasts.
pub(in crate::limits) fn is_code(code: &str) -> bool {
    [ACCOUNT_CODES, MODEL_CODES, MISSING_CODES].iter().any(|codes| codes.split(' ').any(|known| known == code))
}

/// The state that a refusal's codes name: they are conclusive whatever the status.
pub(in crate::limits) fn state_by_code(body: &ErrorBody) -> Option<Lasting> {
    if codes::met(&body.codes, MODEL_CODES) {
        return Some(Lasting::Model);
    }
    codes::met(&body.codes, ACCOUNT_CODES).then_some(Lasting::Account)
}

/// The state that a refusal names, if it names one.
pub(in crate::limits) fn state(body: &ErrorBody) -> Option<Lasting> {
    let by_code = state_by_code(body);
    if by_code == Some(Lasting::Model) {
        return by_code;
    }
    if codes::met(&body.codes, MISSING_CODES) || is_missing_model(body) {
        return Some(Lasting::Model);
    }
    let mut named = clauses(&body.text).filter_map(of_clause).collect::<Vec<_>>();
    named.extend(by_code);
    // the narrowest: "your organization does not have access to the model"
    [Lasting::Login, Lasting::Model, Lasting::Account].into_iter().find(|state| named.contains(state))
}

/// Whether the words name the account, or what it belongs to.
pub(in crate::limits) fn names_account(text: &str) -> bool {
    has(text, ACCOUNT) || has(text, "project|token|credential|authorized|authorised")
}

/// Whether the refusal says that there is no such model. Vendors say so to an account that may not use it.
fn is_missing_model(body: &ErrorBody) -> bool {
    let is_missing = |clause: &str| has(clause, MODEL) && has(clause, MISSING) && !has(clause, PATH);
    // Claude's form is the bare name
    let is_name = |line: &str| line.strip_prefix("model:").is_some_and(|name| !name.trim().contains(' '));
    let is_bare = || codes::met(&body.codes, "notfounderror notfound") && body.text.lines().any(is_name);
    !body.is_page && (clauses(&body.text).any(is_missing) || is_bare())
}

/// Whether a rate-limit refusal says that the quota of a model is zero: the plan lacks it.
pub(in crate::limits) fn is_never_granted(body: &ErrorBody) -> bool {
    let text = body.text.as_str();
    let is_zero = |words: &str| {
        text.match_indices(words).any(|(at, _)| {
            let mut rest = text[at + words.len()..].bytes();
            match rest.next() {
                // a separator of digits, or one of sentences
                Some(b'.' | b',') => !rest.next().is_some_and(|next| next.is_ascii_digit()),
                next => !next.is_some_and(|next| next.is_ascii_digit()),
            }
        })
    };
    let of_model = body.of_model || has(text, MODEL);
    let is_zero = body.is_never_granted || ["limit: 0", "limit of 0", "limit 0,"].into_iter().any(is_zero);
    (of_model && is_zero)
        || (has(text, "include access|未开放|on your plan|in your plan") && state(body) == Some(Lasting::Model))
}

fn of_clause(clause: &str) -> Option<Lasting> {
    let of_model = has(clause, MODEL);
    let of_account = has(clause, ACCOUNT);
    let of_project = clause.contains("project");
    // a value that a message quotes is no statement: "invalid value 'account disabled'"
    let states = || has(clause, VERBS) || STARTS.split('|').any(|word| clause.trim_start().starts_with(word));
    let is_fact = || !has(clause, HYPOTHETICAL) && states();
    let lacks = of_model && (has(clause, NOT_IN_PLAN) || has(clause, UNAVAILABLE) && has(clause, PLAN));
    let ended = of_account && has(clause, ENDED) && is_fact();
    let gone = of_project && !of_model && has(clause, PROJECT_ENDED) && is_fact();
    let unavailable = has(clause, UNAVAILABLE) && has(clause, PLAN);
    let unpaid = has(clause, FREE) && has(clause, UNAVAILABLE);
    if clause.contains(KIND_OF_LOGIN) && has(clause, UNAVAILABLE) {
        Some(Lasting::Login)
    } else if lacks || clause.contains("must be verified to") || (ended || unavailable) && has(clause, FEATURE) {
        Some(Lasting::Model)
    } else if (ended && !of_model) || gone || unpaid {
        Some(Lasting::Account)
    } else {
        None
    }
}

/// The clauses of a text: a point ends one only before a blank, because names contain points.
fn clauses(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\n', ';', '!', '?', '·']).flat_map(|line| line.split(". "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Lasting> {
        state(&ErrorBody::read(text.as_bytes()))
    }

    #[test]
    fn states_of_an_account() {
        for text in [
            "This organization has been disabled.",
            "Your account has been disabled after an automatic review of your recent activities.",
            "This service has been disabled in this account for violation of Terms of Service. Please submit an appeal.",
            "Your API key was reported as leaked. Please use another API key.",
            "You do not have a valid license of this product",
            "You are currently configured to use a Google Cloud Project but lack a Gemini Code Assist license.",
            "You must be a named user on your organization's Gemini Code Assist Standard edition subscription to use this service.",
            "You're restricted from using Gemini Code Assist for individuals in your organization.",
            "Your project has been denied access. Please contact support.",
            "Resource projects/p-1 could not be found.",
            "Permission denied on resource project default.",
            "OAuth authentication is currently not allowed for this organization.",
            "Your organization has disabled Claude subscription access for Claude Code",
            "Your account does not have access to Claude Code.",
            "The workspace is deactivated",
            "The OpenAI account associated with this API key has been deactivated. If you are the developer, check your email.",
            "Gemini for Google Cloud API has not been used in project p-1 before. Enable it by visiting the console.",
            "Project 'p-1' not found or deleted.",
            "Unknown project id: p-1",
            "Account suspended",
            "Gemini API free tier is not available in your country. Please enable billing on your project.",
            "用户已被封禁",
            "您的账号已被锁定，请联系客服",
            "Your account was deactivated. Please contact us at help.openai.com",
            r#"{"error":{"details":[{"reason":"SERVICE_DISABLED"}]}}"#,
            r#"{"detail":{"code":"deactivated_workspace"}}"#,
        ] {
            assert_eq!(of(text), Some(Lasting::Account), "{text}");
        }
    }

    #[test]
    fn models_that_a_plan_lacks() {
        for text in [
            "The 'gpt-5.4' model is not supported when using Codex with a ChatGPT account.",
            "The model `gpt-5.5` does not exist or you do not have access to it.",
            "Project `proj_1` does not have access to model `gpt-5`",
            "Your organization does not have access to model claude-x.",
            "Your organization must be verified to use the model `gpt-5`.",
            "claude-opus-4-6 is not available on your plan",
            "Claude Opus is not available with the Claude Pro plan. If you have updated your plan recently, log in again.",
            "this model requires a subscription, upgrade for access: https://x.example",
            "Your current subscription plan does not yet include access to GLM-5",
            "Not found the model kimi-x or Permission denied",
            "This model is only available on paid plans",
            "Publisher Model `projects/p/models/gemini-x` was not found or your project does not have access to it.",
            "You don't have access to the model with the specified model ID.",
            r#"{"error":{"message":"Invalid model","code":"model_not_allowed"}}"#,
            r#"{"error":{"type":"not_found_error","message":"model: claude-x"}}"#,
            r#"{"error":{"code":"DeploymentNotFound","message":"x"}}"#,
            "Claude Pro users are not currently able to use Opus in Claude Code.",
            "Your organization must be verified to stream this model.",
            "models/gemini-9 is not found for API version v1beta, or is not supported for generateContent.",
            "Model not found gpt-5.5",
            "Model Not Exist",
            "Model use case details have not been submitted for this account.",
            "No endpoints found for vendor/model:free.",
            "key not allowed to access model. This key can only access models=['a']",
            "The model `x` is blocked at the project level.",
            "模型不存在，请检查模型代码。",
            "该令牌无权访问模型 gpt-5",
        ] {
            assert_eq!(of(text), Some(Lasting::Model), "{text}");
        }
    }

    #[test]
    fn features_of_a_model_that_an_account_lacks() {
        for text in [
            "The long context beta is not yet available for this subscription.",
            "Fast mode is not enabled for your organization.",
        ] {
            assert_eq!(of(text), Some(Lasting::Model), "{text}");
        }
    }

    #[test]
    fn what_a_kind_of_login_lacks() {
        let text = "This authentication style is incompatible with the long context beta header.";
        assert_eq!(of(text), Some(Lasting::Login));
    }

    #[test]
    fn what_names_no_lasting_state() {
        for text in [
            "Request not allowed",
            "The caller does not have permission",
            "We are unable to serve your request",
            "This model isn't available right now. You can switch to another model to continue using Claude.",
            "The requested URL /v1beta/models/x was not found on this server.",
            "Not Found: POST /v1/models/x",
            "model: Field required",
            "Item 'rs_1' not found",
            "This model does not support image input.",
            "Requested entity was not found.",
            "Invalid authentication credentials",
            "Repeated violations may lead to your account being suspended.",
            "You have insufficient permissions. Check that you have the correct role in your organization (Reader).",
            "This model's maximum context length is 128000 tokens.",
            "Request contains an invalid argument.",
            "Invalid value: 'account disabled'. Supported values are: 'a'",
            "project_id: extra inputs are not permitted",
            "",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn the_tables_hold_normalised_codes() {
        for code in [ACCOUNT_CODES, MODEL_CODES, MISSING_CODES].iter().flat_map(|codes| codes.split(' ')) {
            assert_eq!(codes::plain(code).as_deref(), Some(code));
        }
    }

    #[test]
    fn a_quota_of_zero_is_never_granted() {
        let is = |text: &str| is_never_granted(&ErrorBody::read(text.as_bytes()));
        for text in [
            "Quota exceeded for metric: x, limit: 0, model: gemini-3.1-pro",
            "Quota exceeded for model x, limit: 0\nPlease retry",
            "would exceed your organization's rate limit of 0 input tokens per minute (org: 1, model: x)",
            r#"{"error":{"details":[{"violations":[{"quotaId":"PerDayPerModel","quotaValue":"0"}]}]}}"#,
            "Your current subscription plan does not yet include access to GLM-5",
            "当前订阅套餐暂未开放GLM-5权限",
        ] {
            assert!(is(text), "{text}");
        }
        for text in
            ["limit: 0.5, model: x", "limit: 05", "limit: 20, model: x", "limit of 0.1", "rate limit of 30,000 tokens"]
        {
            assert!(!is(text), "{text}");
        }
    }
}
