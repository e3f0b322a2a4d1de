// The search of the book answers what users ask: the first hit for the words that they type is a section with the answer.
//
//     node .ci/docs-search.mjs BOOK        BOOK is a built book; every question is listed with its first hit
//
// The index is read as the book's own searcher.js reads it.
import fs from "node:fs";
import path from "node:path";
import vm from "node:vm";

// what is asked, the words that are typed, and the beginnings of the addresses that answer
const QUESTIONS = [
  ["Several Claude Code sessions in parallel log each other out. Why?", "claude code sessions logged out parallel", ["questions.html#why-are-parallel", "credentials.html#token-refresh"]],
  ["What does Codex's refresh_token_reused mean?", "codex refresh_token_reused", ["questions.html#what-does-refresh"]],
  ["The usage endpoint answers 429; how does lessor read usage?", "usage endpoint 429", ["questions.html#why-does-the-usage", "credentials.html#usage"]],
  ["All accounts are rate-limited, though quota is left?", "all accounts rate limited but quota left", ["questions.html#why-does-it-say", "limited.html"]],
  ["A limit stays although its reset has passed", "limit stays after reset", ["questions.html#a-limit-or-cooldown"]],
  ["All sessions land on one account", "all sessions on one account", ["questions.html#why-are-too-many"]],
  ["Does a switch of accounts destroy the prompt cache?", "switching accounts prompt cache", ["questions.html#does-switching"]],
  ["Do sub-agents hit the same account?", "subagents same account", ["questions.html#do-sub-agents", "selection-and-limits.html#sub-agents"]],
  ["All accounts limited: error or wait?", "all accounts limited wait or fail", ["questions.html#what-happens-when-every", "gateway.html#when-no"]],
  ["Can a running session change its account?", "change account in running session", ["questions.html#can-a-running"]],
  ["A second login overwrote the first account", "add second account", ["questions.html#how-do-i-add-a-second", "getting-started.html#add-accounts"]],
  ["Can I cap the number of agents on one account?", "maximum agents per account", ["questions.html#can-i-limit"]],
  ["Keep a part of the weekly quota back", "reserve weekly quota", ["questions.html#can-i-keep", "selection-and-limits.html#accounts-that"]],
  ["Which account does my agent use, and why?", "which account is my agent using", ["questions.html#which-account-is", "agents.html#which-agents-may"]],
  ["An ANTHROPIC_API_KEY overrides my subscription", "ANTHROPIC_API_KEY overrides subscription", ["questions.html#does-an"]],
  ["Can an agent read my refresh tokens?", "can agents read refresh tokens", ["questions.html#can-an-agent"]],
  ["Will my account be banned?", "account banned terms of service", ["questions.html#will-my"]],
  ["I use opencode-antigravity-auth; how do I move?", "migrate from opencode-antigravity-auth", ["coming-from.html#opencode-antigravity-auth"]],
  ["How do I bring the accounts of Antigravity Manager?", "import antigravity manager accounts", ["coming-from.html#antigravity-manager"]],
  ["How do I bring the accounts of opencode-anthropic-multi-auth?", "opencode-anthropic-multi-auth accounts import", ["coming-from.html#opencode-anthropic-multi-auth"]],
  ["Can Claude Code use Gemini models?", "claude code with gemini model", ["questions.html#can-claude-code", "not-included.html"]],
  ["How do I clear a cooldown?", "clear cooldown", ["questions.html#a-limit-or-cooldown", "reference/commands.html#lessor-account-clear"]],
  ["Why do I keep getting logged out?", "keep getting logged out", ["questions.html#why-are-parallel"]],
  ["How do I use the account first whose week ends first?", "use account whose week ends first", ["questions.html#which-weekly", "choosing.html"]],
  ["What became of pid_offset_enabled?", "pid_offset_enabled", ["coming-from.html#opencode-antigravity-auth", "reference/configuration.html#selection", "importing.html"]],
  ["How is the health score set?", "health score", ["selection-and-limits.html#which-account", "reference/configuration.html#selectionhealth", "coming-from.html"]],
  ["Does it work in a Docker container?", "docker container", ["guests.html", "cookbook.html#in-a-dev"]],
  ["Can machines share accounts?", "share accounts between machines", ["questions.html#can-several", "many-machines.html", "guests.html"]],
  ["How many agents can I start?", "how many agents can I start", ["questions.html#how-many", "choosing.html", "scripting.html#planning"]],
  ["Can every request go to the next account?", "round robin each request", ["questions.html#can-each-request", "selection-and-limits.html", "choosing.html", "reference/configuration.html#selection", "differences"]],
  ["Why is my agent stuck?", "agent stuck waiting", ["questions.html#why-is-an-agent-stuck"]],
  ["Are leases lost when the daemon crashes?", "daemon crash lose leases", ["questions.html#what-do-i-lose-when-the", "service.html", "concepts.html"]],
  ["What does invalid_grant mean?", "invalid_grant", ["questions.html#token-expired"]],
  ["Can opencode use my Claude subscription?", "opencode with claude subscription", ["questions.html#can-opencode", "quick-starts.html#opencode"]],
  ["How do I add API keys?", "add api key", ["questions.html#how-do-i-add-an-openrouter", "getting-started.html#add", "reference/commands.html#lessor-account-add", "quick-starts"]],
  ["How do I get rid of it?", "uninstall lessor", ["questions.html#how-do-i-uninstall"]],
  ["Does it work in VS Code?", "vs code extension", ["quick-starts.html#claude-code-in-vs-code"]],
  ["Is there a Debian package?", "install debian package", ["getting-started.html#install", "service.html#units"]],
  ["Where are the files on Windows?", "windows", ["credentials.html#windows", "getting"]],
  ["How do I make a backup?", "backup restore", ["credentials.html#backups", "reference/commands.html#lessor-backup", "reference/commands.html#lessor-restore"]],
  ["Why do I see 429?", "429 too many requests", ["questions.html#why-do-i-see-429"]],
  ["I have several ChatGPT Plus plans", "multiple chatgpt plus accounts", ["questions.html#how-do-i-add-a-second"]],
  ["Does it work behind our proxy?", "proxy corporate network", ["questions.html#does-it-work-behind"]],
  ["Where is the log?", "log file location", ["questions.html#where-are-the-configuration", "service.html#logs"]],
  ["Two Codex accounts at once", "codex two accounts same time", ["questions.html#how-do-i-run-codex"]],
  ["Can keys wait until the plan is used up?", "prefer subscription over api key", ["questions.html#can-the-cheaper"]],
  ["The gateway's port is taken", "port already in use", ["questions.html#the-port"]],
  ["How do I update?", "update lessor", ["questions.html#how-do-i-update"]],
  ["In GitHub Actions?", "use in github actions", ["questions.html#can-i-use-it-in-ci", "cookbook.html#in-ci"]],
  ["How long until something is free?", "how long until account is free", ["questions.html#which-account-is-limited"]],
  ["Delete an account", "delete account", ["questions.html#how-do-i-rename"]],
  ["What leaves my machine?", "what data is sent where", ["questions.html#does-lessor-store"]],
  ["Switch by hand", "how to switch account manually", ["questions.html#how-do-i-switch", "reference/commands.html#lessor-move"]],
  ["Secrets in the keychain?", "keychain storage", ["questions.html#where-are-tokens"]],
  ["Other clients", "aider cline support", ["questions.html#does-it-work-with-aider"]],
  ["A key is refused", "api key rejected 401", ["questions.html#why-is-an-api-key"]],
  ["A cooldown is stuck", "stuck cooldown", ["questions.html#a-limit-or-cooldown"]],
  ["How much quota is left?", "see remaining quota", ["questions.html#how-much-quota"]],
  ["How do I log in on a server?", "headless server login", ["questions.html#how-do-i-log-in-on-a-headless"]],
  ["My weekly limit is reached", "weekly limit reached", ["questions.html#what-can-i-do-when"]],
  ["Do sessions stick to an account?", "sticky session account", ["questions.html#does-a-session-stay"]],
  ["I have a new laptop", "move to new laptop", ["questions.html#how-do-i-move-to-a-new"]],
  ["Which variable names the proxy?", "proxy env var", ["questions.html#does-it-work-behind"]],
  ["Does it come back to the first account?", "switch back to main account after reset", ["questions.html#does-a-session-switch-back"]],
  ["An account is gone", "account keeps disappearing after restart", ["questions.html#why-is-an-account-missing"]],
  ["What does 529 mean?", "overloaded error 529", ["questions.html#what-happens-when-the-provider"]],
  ["Is only Opus limited?", "opus limit only", ["questions.html#is-the-whole-account"]],
  ["Gemini answers 403", "gemini 403 project", ["questions.html#why-do-i-get-403"]],
  ["Are prompts stored?", "does it store my prompts", ["questions.html#does-lessor-store"]],
  ["Connection refused", "can't connect to gateway", ["questions.html#an-agent-cannot"]],
  ["The page in another browser", "dashboard from another computer", ["dashboard.html#the-dashboard"]],
];

const [book] = process.argv.slice(2);
if (!book) {
  console.error("docs-search.mjs: the directory of the book is missing");
  process.exit(2);
}
const script = (name) => {
  const file = fs.readdirSync(book).find((file) => file.startsWith(name) && file.endsWith(".js"));
  if (!file) throw new Error(`${book} has no ${name}….js: mdbook build docs`);
  return fs.readFileSync(path.join(book, file), "utf8");
};
// what a page of the book has when its searcher starts
const search = {};
const page = vm.createContext({ window: { search }, search });
vm.runInContext(script("elasticlunr-"), page);
vm.runInContext(script("searchindex-"), page);
const found = page.window.search;
const index = (page.elasticlunr ?? page.window.elasticlunr).Index.load(found.index);

let wrong = 0;
for (const [question, words, answers] of QUESTIONS) {
  const first = index.search(words, found.search_options)[0];
  const hit = first ? found.doc_urls[first.ref] : "nothing";
  const isAnswer = answers.some((answer) => hit.startsWith(answer));
  wrong += isAnswer ? 0 : 1;
  console.log(`${isAnswer ? "  " : "! "}${question}\n      ${words} → ${hit}`);
}
console.log(`search: ${QUESTIONS.length} questions, ${wrong} not answered by the first hit`);
process.exit(wrong ? 1 : 0);
