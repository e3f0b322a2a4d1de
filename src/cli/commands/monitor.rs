//! `ui`: opens the gateway's page in the browser.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::launch::create_private_directory;
use crate::cli::ui::{browser, prompt};
use crate::client::{Client, ClientError};
use crate::protocol::{ErrorKind, OpenPageParams, PageAccess, SecretText};

/// How long a file that opens the page is of use.
const FILE_LIFE: Duration = Duration::from_secs(60);
/// How often the command looks for a signal while it waits.
const LOOK_FOR_SIGNALS: Duration = Duration::from_millis(50);
#[cfg(unix)]
const ENDING_SIGNALS: &[i32] =
    &[signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(windows)]
const ENDING_SIGNALS: &[i32] = &[signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
/// The names of these files.
const FILE_PREFIX: &str = "page-";
const FILE_SUFFIX: &str = ".html";

#[derive(Debug, Args)]
pub(crate) struct UiArgs {
    /// Print the address instead of opening the browser
    #[arg(long)]
    no_browser: bool,
    /// Let the page change something; asks on the terminal
    #[arg(long)]
    actions: bool,
}

/// How the page is reached.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PageAddress {
    /// The address with the code, which opens the page once.
    url: String,
    /// When the code ends, epoch ms.
    expires_at: Option<u64>,
    /// Whether the page may change something.
    actions: bool,
}

pub(super) fn execute(options: &UiArgs, context: &Context) -> Result<(), CliError> {
    if options.actions && !confirmed(context)? {
        return Err(CliError::usage("the page was not opened").hint("without actions: lessor ui"));
    }
    let params = OpenPageParams { actions: options.actions, wait_for: None };
    let access = context.ask(|client| client.open_page(params.clone()))?;
    let PageAccess { url: Some(url), code: Some(code), expires_at, .. } = access else {
        return Err(CliError::new(ErrorKind::NoGateway, "the gateway does not listen"));
    };
    let address = PageAddress { url: format!("{url}#{}", code.0), expires_at, actions: options.actions };
    let shows_only = options.no_browser || context.output.json;
    let interrupt = Interrupt::watch()?;
    let opened = if shows_only { None } else { open_in_browser(&address.url, context)? };
    let Some(file) = opened else {
        if !context.output.json {
            context.output.note("Open this address in a browser within 60 s; it works once:");
        }
        context.output.result(&address, || address.url.clone())?;
        if !context.output.json {
            if !options.no_browser {
                context.output.note("No browser was found.");
            }
            let host = url.trim_start_matches("http://").trim_end_matches("/ui");
            context.output.note(&format!(
                "From another machine, forward the port first: ssh -L {0}:{host} THIS-MACHINE",
                host.rsplit(':').next().unwrap_or_default()
            ));
        }
        return Ok(());
    };
    let used = wait_until_used(&code, context, &interrupt);
    remove(&file);
    interrupt.take_effect();
    if used? {
        context.output.note("The page is open in your browser.");
        return Ok(());
    }
    let error = CliError::new(ErrorKind::Internal, "the browser has not opened the page within 60 s");
    Err(error.hint("it may not be allowed to read the file; open the address yourself: lessor ui --no-browser"))
}

/// Asks whether the page may change something: only a person at a terminal can say so.
fn confirmed(context: &Context) -> Result<bool, CliError> {
    if !prompt::can_ask() {
        let error = CliError::usage("--actions needs a terminal, to ask for a confirmation");
        return Err(error.hint("run it on a terminal, or without actions: lessor ui"));
    }
    let question = "The page will be able to enable and disable accounts, clear their limits, refresh their logins, and \
                    release and move leases, for 12 hours. Allow that? [y/N]";
    Ok(prompt::ask(question, &context.output)?.is_some_and(|answer| answer == "y" || answer == "yes"))
}

/// Has the browser open a file that leads to the page: the code is in the file, which only this user can read, and in no
/// argument, which every user can read. `None` if there is no browser.
fn open_in_browser(url: &str, context: &Context) -> Result<Option<PathBuf>, CliError> {
    let directory = context.places()?.run;
    let failed = |error: std::io::Error| {
        let message = format!("writing the file that opens the page, in {}: {error}", directory.display());
        CliError::internal(message).hint("open the page without a file: lessor ui --no-browser")
    };
    create_private_directory(&directory).map_err(failed)?;
    remove_old(&directory);
    // created with mode 0600
    let mut file = tempfile::Builder::new();
    let file = file.prefix(FILE_PREFIX).suffix(FILE_SUFFIX).rand_bytes(12).tempfile_in(&directory);
    let mut file = file.map_err(failed)?;
    file.write_all(document(url).as_bytes()).map_err(failed)?;
    if !browser::open(&file.path().display().to_string()) {
        // removed with the value
        return Ok(None);
    }
    let (_, path) = file.keep().map_err(|error| failed(error.error))?;
    Ok(Some(path))
}

/// A document that leads to the page. The address has letters of a URL only.
fn document(url: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>lessor</title>\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<meta http-equiv=\"refresh\" content=\"0;url={url}\">\n\
         <p><a href=\"{url}\">Open the page of lessor</a></p>\n</html>\n"
    )
}

/// Waits until the code was used or has ended, or until the user interrupts it; answers whether it was used.
fn wait_until_used(code: &SecretText<'static>, context: &Context, interrupt: &Interrupt) -> Result<bool, CliError> {
    let client = context.connect()?;
    let (sender, found) = mpsc::channel();
    let code = code.clone();
    // on its own thread: an answer of the daemon may take 20 s
    thread::spawn(move || sender.send(ask_until_used(client, &code)));
    loop {
        match found.recv_timeout(LOOK_FOR_SIGNALS) {
            Ok(used) => return Ok(used?),
            Err(_) if interrupt.has_come() => return Ok(false),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(false),
        }
    }
}

fn ask_until_used(mut client: Client, code: &SecretText<'static>) -> Result<bool, ClientError> {
    loop {
        let params = OpenPageParams { actions: false, wait_for: Some(code.clone()) };
        match client.open_page(params)?.state.as_str() {
            "open" => {}
            state => return Ok(state == "used"),
        }
    }
}

/// A signal that ends the command, noted until its file is removed.
struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    fn watch() -> Result<Self, CliError> {
        let signal = Arc::<AtomicUsize>::default();
        for number in ENDING_SIGNALS {
            let value = usize::try_from(*number).unwrap_or_default();
            let noted = signal_hook::flag::register_usize(*number, signal.clone(), value);
            noted.map_err(|error| CliError::internal(format!("signals cannot be watched: {error}")))?;
        }
        Ok(Self(signal))
    }

    fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Ends the process as the signal would have done, if one has come.
    fn take_effect(&self) {
        let signal = i32::try_from(self.0.load(Ordering::Relaxed)).unwrap_or_default();
        if signal > 0 {
            let _does_not_return = signal_hook::low_level::emulate_default_handler(signal);
        }
    }
}

/// Removes files of earlier commands that were cut off.
fn remove_old(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(FILE_PREFIX) && name.ends_with(FILE_SUFFIX));
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = age.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if is_ours && age.is_some_and(|age| age > FILE_LIFE) {
            remove(&entry.path());
        }
    }
}

fn remove(file: &Path) {
    // its code is of no use any more
    _ = std::fs::remove_file(file);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_leads_to_the_page_and_loads_nothing() {
        let text = document("http://127.0.0.1:17000/ui#c0de");
        assert!(text.contains("content=\"0;url=http://127.0.0.1:17000/ui#c0de\""), "{text}");
        assert!(!text.contains("src=") && !text.contains("<script"), "{text}");
    }
}
