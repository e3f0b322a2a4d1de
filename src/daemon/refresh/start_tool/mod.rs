//! Logins that only their tool can refresh: lessor starts the tool in the login's home, and adopts what it writes there.

mod process;
mod program;
mod recipe;
mod words;

use std::path::{Path, PathBuf};
use std::{io, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::spawn_blocking};

use self::process::ToolEnd;
use self::recipe::ToolRecipe;
use self::words::{ToolAnswer, ToolOutput};
use super::shared_login::adopt_newer;
use crate::credential::refresh::{RefreshFailure, RefreshFault, RefreshOutcome};
use crate::credential::{Link, LoginHome, Secret};
use crate::daemon::linked_logins::token_end;
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, set_login_state};
use crate::pool::{AccountId, LoginProblem, LoginState, Wall};

/// How long all commands of a recipe may take together.
pub(crate) const LONGEST_START: Duration = Duration::from_secs(45);
/// From this many failures in a row on, the tool is held unable to refresh its login.
const MOST_FAILURES: u32 = 3;
/// Programs that run at the same time: each needs the memory of an agent.
static PLACES: Semaphore = Semaphore::const_new(3);

/// A login whose tool is started.
struct ToolLogin {
    home: LoginHome,
    recipe: &'static ToolRecipe,
    program: PathBuf,
    link: Link,
    /// When the account's access token ends.
    ends: Option<Wall>,
}

/// What the last command of a recipe did.
struct ToolRun {
    end: ToolEnd,
    output: ToolOutput,
}

/// Has the tool of a linked login refresh it.
pub(super) async fn refresh(daemon: &Arc<Daemon>, id: AccountId, link: &Link) -> RefreshOutcome {
    let before = daemon.state().logins.generation(id);
    // it may have been used in its home meanwhile
    if adopt_newer(daemon, id, link).await {
        return RefreshOutcome::Renewed;
    }
    // the semaphore is never closed
    let _place = PLACES.acquire().await;
    let login = match prepare(daemon, id, link).await {
        Ok(login) => login,
        Err(why) => return failed(RefreshFault::Tool, why),
    };
    let run = match login.run_commands().await {
        Ok(run) => run,
        Err(error) => {
            let why = format!("{} cannot be started: {error}", login.program.display());
            return failed(RefreshFault::Tool, why);
        }
    };
    // what it wrote may have been adopted while it ran: its file is watched
    let is_newer = adopt_newer(daemon, id, link).await || daemon.state().logins.generation(id) > before;
    if is_newer {
        learn_life(daemon, id);
    }
    match run.output.answer() {
        // its token may be new, but serves nothing
        ToolAnswer::Ineligible => {
            end_login(daemon, id, LoginProblem::Described(login.recipe.ineligible_words(&run.output)));
            RefreshOutcome::LoginEnded
        }
        _ if is_newer => RefreshOutcome::Renewed,
        ToolAnswer::Rejected => {
            let problem = LoginProblem::RefreshRejected { code: "invalid_grant".to_owned(), answer_lost_at: None };
            end_login(daemon, id, problem);
            RefreshOutcome::LoginEnded
        }
        ToolAnswer::WantsLogin => failed(RefreshFault::ToolWantsLogin, login.why(&run)),
        ToolAnswer::Other => {
            let before = daemon.state().logins.plan.failures(id);
            let fault = if before + 1 < MOST_FAILURES { RefreshFault::Account } else { RefreshFault::Tool };
            failed(fault, login.why(&run))
        }
    }
}

fn failed(fault: RefreshFault, why: String) -> RefreshOutcome {
    RefreshOutcome::Failed(RefreshFailure { fault, why, wait: None })
}

/// Finds the program, and has its file say that its token has ended. Why it cannot be done, else.
async fn prepare(daemon: &Arc<Daemon>, id: AccountId, link: &Link) -> Result<ToolLogin, String> {
    let (ends, refresh) = {
        let state = daemon.state();
        let known = state.credentials.get(id);
        let refresh = known.and_then(|known| known.refresh.as_ref()).map(Secret::duplicate);
        (known.and_then(|known| known.expires_at), refresh)
    };
    let (state_directory, link) = (daemon.run.state_directory.clone(), link.clone());
    let work = spawn_blocking(move || {
        let home = LoginHome::containing(&state_directory, link.path.as_ref());
        let home = home.ok_or_else(|| format!("its login home is gone: {}", link.path))?;
        let unknown = |error: io::Error| format!("its login home {} is damaged: {error}", home.root().display());
        let program = home.record().map_err(unknown)?.program;
        let recipe = ToolRecipe::of(home.program());
        let recipe = recipe.ok_or_else(|| format!("lessor does not know how {} refreshes a login", link.tool))?;
        program::check(&program).map_err(|why| format!("its program {} {why}", program.display()))?;
        recipe
            .end_token(Path::new(&link.path), refresh.as_ref(), clock::now().wall)
            .map_err(|error| error.to_string())?;
        Ok(ToolLogin { home, recipe, program, link, ends })
    });
    work.await.map_err(|error| error.to_string())?
}

impl ToolLogin {
    /// Runs the commands of the recipe until one has brought a newer token.
    async fn run_commands(&self) -> io::Result<ToolRun> {
        let deadline = process::after(LONGEST_START);
        let mut last: Option<ToolRun> = None;
        for arguments in self.recipe.commands {
            let started = process::run(&self.home, (arguments, self.recipe.variables), deadline, || self.has_newer());
            let (end, output) = started.await?;
            tracing::debug!(tool = self.link.tool, ?arguments, ?end, "started a tool to refresh its login");
            let run = ToolRun { end, output };
            if self.has_newer().await || run.output.answer() != ToolAnswer::Other || end == ToolEnd::TooLong {
                return Ok(run);
            }
            last = Some(run);
        }
        last.ok_or_else(|| io::Error::other("there is no command for it"))
    }

    /// Whether the file has a token that ends later than the account's.
    fn has_newer(&self) -> impl Future<Output = bool> + Send + use<> {
        let (path, item, ends) = (self.link.path.clone(), self.link.item.clone(), self.ends);
        let seen = spawn_blocking(move || token_end(&path, &item));
        async move {
            let seen = seen.await.ok().flatten();
            seen.is_some() && seen > ends
        }
    }

    /// Why the token is not newer, with what the program said.
    fn why(&self, run: &ToolRun) -> String {
        let name = self.home.program().name();
        let what = match run.end {
            ToolEnd::AskedForLogin => "asks for a login".to_owned(),
            _ if run.output.answer() == ToolAnswer::WantsLogin => "asks for a login, or is offline".to_owned(),
            ToolEnd::TooLong => format!("did not end within {} s", LONGEST_START.as_secs()),
            ToolEnd::Exited(status) if !status.success() => format!("ended with {status} and brought no new token"),
            ToolEnd::Exited(_) | ToolEnd::Done => "brought no new token".to_owned(),
        };
        let line = run.output.line().map(|line| format!(": {line}")).unwrap_or_default();
        format!("{name} was started to refresh it, and {what}{line}")
    }
}

/// What the tool has written was issued just now: a short-lived token is used for half its life, and then refreshed.
fn learn_life(daemon: &Daemon, id: AccountId) {
    let state = &mut *daemon.state();
    let end = state.credentials.get(id).and_then(|known| known.expires_at);
    if let Some(life) = end.map(|end| end.since(clock::now().wall)).filter(|life| !life.is_zero()) {
        state.logins.learn_life(id, life);
    }
}

/// The login has ended, or serves nothing.
fn end_login(daemon: &Daemon, id: AccountId, problem: LoginProblem) {
    let state = &mut *daemon.state();
    state.apply_internal(clock::now(), set_login_state(id, LoginState::NeedsLogin(problem)));
}
